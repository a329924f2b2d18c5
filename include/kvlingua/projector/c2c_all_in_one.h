// Cache-to-Cache's older class, AllInOneProjector, numerically that of its reference
// implementation (arXiv 2510.03215, its all_in_one recipe; published fusers name their class).
//
// One network a target layer, keys and values apart, over the source alone:
//   P = projection(source)      with concat: P = combiner([projection(source); target])
//   out = target + gate * w * P,   w = sigmoid(weight / scalar_temperature)
// One gate logit a layer for keys and values together, in training with Gumbel noise for every
// element. Weights are one parameter a layer for keys and one for values, or come a token and head
// from a network over what `weight_input` names. preserve_target_weight: (1 - w) * target.
//
// The class's gates that depend on their input and its granularities other than those two occur in
// no recipe; whoever names them is refused where the file is read.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kvlingua/config/projector_options.h"

namespace kvlingua {

struct AllInOneShape {
  int64_t source_width = 0;         // of one cache, all heads
  int64_t heads = 1, head_dim = 1;  // the target's
  int64_t hidden_dim = 512, num_layers = 2;
  double dropout = 0.1;
  int64_t target_width() const { return heads * head_dim; }
};

// A parameter of one layer: name and order of the reference's state_dict.
struct AllInOneParameter {
  std::string name;
  std::vector<int64_t> size;
  int64_t fan_in = 0;  // uniform in +-1 / sqrt(fan_in); 0: filled with `fill`
  double fill = 0;
};
// Throws Error (kUsage) for an impossible network.
std::vector<AllInOneParameter> all_in_one_parameters(const AllInOneShape& shape,
                                                     const AllInOneOptions& options);

inline constexpr double kWeightDropout = 0.1;

// One layer. Caches [B, H, N, D]; `state`: its parameters by name. `uniform`: the Gumbel draws
// [B, H, N, D] of a training step that draws, else undefined. `weight_dropout`: of the weights'
// network, in the reference .1 whatever its recipe says. In evaluation the result is float32 when
// the parameters are a half type.
struct AllInOneLayer {
  at::Tensor source_key, source_value, target_key, target_value;
  std::vector<std::pair<std::string, at::Tensor>> state;
  at::Tensor temperature;  // of the gate
  bool training = false;
  at::Tensor uniform;
  double weight_dropout = kWeightDropout;
};
std::pair<at::Tensor, at::Tensor> all_in_one_layer(const AllInOneShape& shape,
                                                   const AllInOneOptions& options,
                                                   const AllInOneLayer& layer);

}  // namespace kvlingua
