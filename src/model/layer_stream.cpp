#include "layer_stream.h"

#include <ATen/core/grad_mode.h>

namespace kvlingua {

LayerStream::LayerStream(StoredWeights stored, const ModelConfig& config,
                         const LoadOptions& options, std::shared_ptr<Scratch> scratch)
    : stored_(std::move(stored)),
      options_(options),
      weights_(allocate_layer(config,
                              {.device = options.device,
                               .dtype = options.dtype,
                               .format = held_format(config, options),
                               .scratch = std::move(scratch)},
                              named_, parts_)),
      layers_(config.num_layers) {}

const LayerWeights& LayerStream::layer(int64_t index) {
  if (index == loaded_) return weights_;
  const at::NoGradGuard no_grad;
  loaded_ = -1;  // half a layer is none
  const std::string prefix = layer_prefix(index);
  for (const auto& [name, tensor] : named_) load_tensor(stored_, prefix + name, tensor);
  for (const auto& [name, part] : parts_) load_part(stored_, prefix + name, options_, *part);
  loaded_ = index;
  // The disk may start on what comes next while this layer is computed; after the last comes the
  // first.
  const std::string next = layer_prefix((index + 1) % layers_);
  for (const auto& [name, tensor] : named_) stored_.will_need(next + name);
  for (const auto& [name, part] : parts_) stored_.will_need(next + name);
  return weights_;
}

}  // namespace kvlingua
