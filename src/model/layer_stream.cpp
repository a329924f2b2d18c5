#include "layer_stream.h"

#include <ATen/core/grad_mode.h>

namespace kvlingua {

LayerStream::LayerStream(ShardedSafetensors files, const ModelConfig& config, at::Device device,
                         at::ScalarType dtype)
    : files_(std::move(files)),
      weights_(allocate_layer(config, device, dtype, named_)),
      layers_(config.num_layers) {}

const LayerWeights& LayerStream::layer(int64_t index) {
  if (index == loaded_) return weights_;
  const at::NoGradGuard no_grad;
  loaded_ = -1;  // half a layer is none
  for (const auto& [name, tensor] : named_) load_tensor(files_, layer_prefix(index) + name, tensor);
  loaded_ = index;
  // The disk may start on what comes next while this layer is computed; after the last comes the
  // first.
  for (const auto& [name, tensor] : named_) {
    const std::string next = layer_prefix((index + 1) % layers_) + name;
    files_.file_of(next).advise(FileAccess::kWillNeed, files_.at(next).data);
  }
  return weights_;
}

}  // namespace kvlingua
