// The Cache-to-Cache projector (Fu et al. 2025, arXiv 2510.03215), numerically that of its
// reference implementation.
//
// One projector per target layer, all held in stacked tensors: a tower is one (target layer, key or
// value) pair, there are G = 2 T of them, keys first (tower = kv * T + layer), so every matrix of
// the network is one batched GEMM.
//   hidden = block(in([source; target]))          block(x) = x + dropout(W2 gelu(W1 rmsnorm(x)))
//   P = proj_out(blocks(hidden))                  w = sigmoid(head(block(hidden)))
//   out = target + gate * w * P
// Caches are taken as the models' attention sees them: keys rotated, nothing un-rotated. Heads are
// flattened head-major. The gate is one logit per tower: in training sigmoid((logit + Gumbel noise)
// / temperature) per head and token, in evaluation logit > 0, strictly, so an untrained projector
// is closed. In evaluation gate * w * P and the sum are float32 and rounded once.
//
// Ablation levels as in the reference: 0 all; 1 w = 1; 2 also gate = 1; 3 also no target (out = P);
// 4 only gate = 1.
//
// Its older class, AllInOneProjector, is another network behind the same interface
// (c2c_all_in_one.h): C2CConfig::all_in_one.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvlingua/cache/kv_cache.h"
#include "kvlingua/config/projector_options.h"
#include "kvlingua/projector/c2c_tower.h"

namespace kvlingua {

enum class LayerMapping { kLastAligned, kNearest };
LayerMapping layer_mapping_from_name(
    const std::string& name);  // "last_aligned", "k_nearest"; throws Error (kUsage)
// The source layer of every target layer.
std::vector<int64_t> map_layers(LayerMapping mapping, int64_t target_layers, int64_t source_layers);

struct C2CConfig {
  KvShape source, target;
  std::vector<int64_t> source_layer;  // one per target layer
  int64_t hidden_dim = 1024;
  int64_t intermediate_dim = 1024;
  int64_t num_layers = 3;  // >= 3: one common block and num_layers - 2 projection blocks
  double dropout = 0.1;
  double initial_temperature = 1.0;
  double final_temperature = 0.001;
  int64_t anneal_steps = 1929;
  bool zero_init = false;
  int ablation_level = 0;
  std::optional<AllInOneOptions> all_in_one;  // that class instead

  bool has_scalar() const { return ablation_level == 0 || ablation_level == 4; }
  bool has_gate() const { return ablation_level <= 1; }
  bool has_target() const { return ablation_level != 3; }
};

class C2CFuser {
 public:
  // Fresh weights, uniform in +-1/sqrt(fan_in), norms 1, logits 0. Throws Error (kUsage) for an
  // impossible config.
  C2CFuser(C2CConfig config, at::Device device, at::ScalarType dtype, uint64_t seed = 0);

  const C2CConfig& config() const { return config_; }
  void to(at::Device device, at::ScalarType dtype);

  struct Mode {
    bool training = false;
    // Gumbel draws u in [0, 1), [2, T, B, N, target heads], of AllInOneProjector [T, B, target
    // heads, N, D]; undefined = drawn. For parity tests.
    at::Tensor uniform;
    std::optional<double> fixed_uniform;  // every draw this number, and no dropout that a recipe
                                          // cannot set; for parity tests too
    std::optional<at::Generator> generator;
    bool recompute = false;  // towers, in backward
  };
  // source: [S, B, Hs, N, Ds], target: [T, B, Ht, N, Dt], same N tokens. Differentiable with
  // respect to the parameters and both caches. The result carries the target's positions and
  // rotation. In evaluation its dtype is float32 when the parameters are a half type (the caller
  // rounds), else that of the target.
  KvCache fuse(const KvCache& source, const KvCache& target, const Mode& mode) const;

  // T(step) = T0 (Tf / T0)^min(step / anneal_steps, 1), stored in the parameters' dtype.
  void set_temperature(int64_t step);
  double temperature() const;  // reads a tensor: waits for the device
  const at::Tensor& temperature_tensor() const {
    return temperature_T_;
  }  // [T], what a checkpoint holds

  // Stacked trainable tensors, names as the reference's without "key_" / "value_": "in.weight" [G,
  // H, C], ... AllInOneProjector's have its own names, [T, ...]. A gate's logits come first.
  const std::vector<std::pair<std::string, at::Tensor>>& parameters() const { return parameters_; }

  // One target layer in the reference's names and order of its state_dict, temperature included.
  // Views of the stacks.
  std::vector<std::pair<std::string, at::Tensor>> layer_state(int64_t layer) const;
  // Copies one layer's state in. Strict: throws Error (kInput) naming missing, extra and mis-shaped
  // tensors.
  void load_layer_state(int64_t layer,
                        const std::vector<std::pair<std::string, at::Tensor>>& state);
  // Where a tensor of layer_state() lies in parameters(): the stack's name and the index in it.
  std::pair<std::string, int64_t> place_of(const std::string& name, int64_t layer) const;

 private:
  void add(const std::string& name, at::Tensor tensor);
  const at::Tensor& named(const std::string& name) const;
  void bind();  // points the members below at parameters_
  void add_towers(const std::function<at::Tensor(at::IntArrayRef, int64_t)>& uniform,
                  const at::TensorOptions& options);
  at::Tensor gumbel_uniform(at::IntArrayRef size, const Mode& mode) const;
  KvCache fuse_all_in_one(const KvCache& source, const KvCache& target, const Mode& mode) const;

  C2CConfig config_;
  at::Tensor temperature_T_;  // [T], in the parameters' dtype
  std::vector<std::pair<std::string, at::Tensor>> parameters_;
  at::Tensor gate_logit_;
  TowerStack stack_;
  at::Tensor source_layer_;  // [T], gathers source layers
};

}  // namespace kvlingua
