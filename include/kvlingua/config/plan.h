// Plan: the size, memory and time of a recipe's stages, computed from shapes before anything is
// done.
//
// Plain numbers in, plain numbers out; knows no torch and opens no model. Memory is the peak of the
// device the stage runs on (on the CPU: of the process). Time divides arithmetic by a measured rate
// and moved bytes by a measured bandwidth. What each term stands for is said where it is added
// (plan.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/config/recipe.h"

namespace kvlingua {

// One model in numbers, as its config.json has them.
struct ModelNumbers {
  int64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0,
          vocab = 0;
  int64_t parameters = 0;       // of the whole model
  int64_t head_parameters = 0;  // of embedding and head: vocab * hidden, twice when untied
  int64_t max_positions = 0;
  int64_t compute_bytes = 4;  // of one weight or activation

  int64_t kv_channels() const { return kv_heads * head_dim; }  // of one layer's keys
  int64_t weight_bytes() const { return parameters * compute_bytes; }
  // Keys and values of one token, `element_bytes` each.
  double kv_bytes(double element_bytes) const {
    return 2.0 * static_cast<double>(layers * kv_channels()) * element_bytes;
  }
  // Of reading one token at the given context length, without the vocabulary head.
  double flops_per_token(double context) const;
};

struct MachineNumbers {
  bool cuda = false;
  double memory = 0;       // bytes available to the device
  double base_memory = 0;  // what the process takes there before any model: libraries, CUDA context
  double flops = 50e9;     // a second, of large GEMMs in the compute type
  double flops_float32 = 50e9;
  double bandwidth = 10e9;   // bytes a second, of the device's memory
  double disk_rate = 500e6;  // bytes a second, written and synced
  double disk_free = 0;
  double launch_seconds = 5e-6;  // overhead of one operation
};

struct CorpusNumbers {
  int64_t samples = 0;
  double tokens_per_sample = 0;  // of the span, after max_length
};

struct StagePlan {
  std::string name;
  double memory = 0;  // peak, bytes
  double seconds = 0;
  double disk = 0;            // bytes written
  std::string batch_key;      // the recipe key that scales memory; empty when none does
  int64_t batch = 0;          // its value
  int64_t largest_batch = 0;  // the largest that fits; 0 when not even one does
  bool fits = false;
};

struct Plan {
  double bytes_per_token = 0;  // stored, both models
  double dataset_tokens = 0, dataset_bytes = 0;
  int64_t projector_parameters = 0;
  std::vector<StagePlan> stages;
  bool fits_memory = true, fits_disk = true;
  double seconds = 0, disk = 0;
};

double storage_element_bytes(const std::string& storage_dtype);
// Parameters of the recipe's projector (ridge base included).
int64_t projector_parameters(const ProjectorOptions& options, const ModelNumbers& source,
                             const ModelNumbers& target);

Plan make_plan(const Recipe& recipe, const ModelNumbers& source, const ModelNumbers& target,
               const CorpusNumbers& corpus, const MachineNumbers& machine);

}  // namespace kvlingua
