// LayerStream: the layers of a model larger than the device's memory, one at a time.
//
// The files stay mapped; a layer's weights are copied into the one place there is when they are
// needed, and their pages are dropped again. Results are those of the resident model bit for bit:
// the same numbers meet the same operations. One pass over all layers reads all files once, so
// reading many tokens at once is what pays.
#pragma once

#include <string>
#include <vector>

#include "kvlingua/io/safetensors.h"
#include "weights.h"

namespace kvlingua {

// Opens the weights of a directory and holds names and shapes of all tensors to the config. Throws
// Error: kInput, kCorrupt.
ShardedSafetensors open_weights(const std::filesystem::path& directory, const ModelConfig& config);

// Copies and converts one tensor, looks for values that are not finite, and drops its pages. Throws
// Error (kInput) naming file, tensor and place.
void load_tensor(const ShardedSafetensors& files, const std::string& name, const at::Tensor& into);

class LayerStream {
 public:
  // `files` as open_weights() gives them.
  LayerStream(ShardedSafetensors files, const ModelConfig& config, at::Device device,
              at::ScalarType dtype);

  // The weights of one layer, valid until the next call. Throws Error as load_tensor.
  const LayerWeights& layer(int64_t index);

 private:
  ShardedSafetensors files_;
  NamedTensors named_;  // of the layer, names behind layer_prefix()
  LayerWeights weights_;
  int64_t loaded_ = -1;
  int64_t layers_;
};

}  // namespace kvlingua
