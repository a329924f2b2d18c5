// What costs are computed from: a model, a corpus and a machine in plain numbers.
//
// Memory is the peak of the device a stage runs on (on the CPU: of the process). Time divides
// arithmetic by a measured rate and moved bytes by a measured bandwidth.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>

#include "kvlingua/cache/kv_shape.h"
#include "kvlingua/config/pair_options.h"
#include "kvlingua/model/model_config.h"

namespace kvlingua {

// One model in numbers, as its config.json has them.
struct ModelNumbers {
  int64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0,
          vocab = 0;
  int64_t parameters = 0;       // of the whole model
  int64_t head_parameters = 0;  // of embedding and head: vocab * hidden, twice when untied
  int64_t max_positions = 0;
  int64_t compute_bytes = 4;  // of one weight or activation
  int64_t held_bytes = 0;     // all weights as they are held; 0: in the compute type
  int64_t scratch_bytes = 0;  // beside them, of quantised ones: the floats of one product

  KvShape kv_shape() const { return {layers, kv_heads, head_dim}; }
  int64_t kv_channels() const { return kv_heads * head_dim; }  // of one layer's keys
  int64_t weight_bytes() const { return held_bytes > 0 ? held_bytes : parameters * compute_bytes; }
  // Keys and values of one token, `element_bytes` each.
  double kv_bytes(double element_bytes) const {
    return 2.0 * static_cast<double>(layers * kv_channels()) * element_bytes;
  }
  // Of reading one token at the given context length, without the vocabulary head.
  double flops_per_token(double context) const;
  // Forward: the widest layer's temporaries, `tokens` at once.
  double activation_bytes(double tokens) const;
  // What backward keeps of one layer, per token: inputs of norms, projections, attention and the
  // gated MLP.
  double saved_bytes_per_token() const;
  double operations() const { return 30.0 * static_cast<double>(layers); }  // of one forward
};
// `options` say how its weights are held: dense, int8, nf4, or as its files have them.
ModelNumbers numbers_of(const ModelConfig& config, const ModelOptions& options,
                        int64_t compute_bytes);
// Bytes of one weight or activation of a model as a recipe asks for it on this device.
int64_t compute_bytes(const ModelOptions& options, at::Device device, int64_t parameters);
// Of a cache's shape alone, where the model is not here.
ModelNumbers numbers_of(const KvShape& shape);

struct CorpusNumbers {
  int64_t samples = 0;
  double tokens_per_sample = 0;  // of the span, after max_length
};

struct MachineNumbers {
  bool cuda = false;
  double memory = 0;       // bytes available to the device
  double base_memory = 0;  // what the process takes there before any model: libraries, CUDA context
  double flops = 50e9;     // a second, of large GEMMs in the compute type
  double flops_float32 = 50e9;
  // What the ridge stage's solution is made of, in float64:
  // products and Cholesky factors (n^3 / 3).
  double flops_float64 = 20e9, flops_cholesky = 10e9;
  double bandwidth = 10e9;   // bytes a second, of the device's memory
  double first_touch = 2e9;  // bytes a second, of memory that was just allocated
  double disk_rate = 500e6;  // bytes a second, written and synced
  double disk_free = 0;
  double launch_seconds = 5e-6;  // overhead of one operation
};

// FLOP/s of large matrix products, measured for a quarter of a second at most. The one place where
// that is measured.
double product_rate(at::Device device, at::ScalarType dtype);
// The type in which the device is fastest, of those that models compute in there: float32 on the
// CPU, a GPU's half type.
at::ScalarType fastest_type(at::Device device);
// Its memory, as a process has it before any model. Rates stay as they are.
void set_memory(MachineNumbers& machine, at::Device device);

}  // namespace kvlingua
