// LayerStream: the layers of a model larger than the device's memory, one at a time.
//
// The files stay mapped; a layer's weights are copied into the one place there is when they are
// needed, and their pages are dropped again. Results are those of the resident model bit for bit:
// the same numbers meet the same operations. One pass over all layers reads all files once, so
// reading many tokens at once is what pays.
#pragma once

#include <string>
#include <vector>

#include "load_weights.h"

namespace kvlingua {

class LayerStream {
 public:
  LayerStream(StoredWeights stored, const ModelConfig& config, const LoadOptions& options,
              std::shared_ptr<Scratch> scratch);

  // The weights of one layer, valid until the next call. Throws Error as load_tensor.
  const LayerWeights& layer(int64_t index);

 private:
  StoredWeights stored_;
  LoadOptions options_;
  NamedTensors named_;  // of the layer, names behind layer_prefix()
  NamedParts parts_;
  LayerWeights weights_;
  int64_t loaded_ = -1;
  int64_t layers_;
};

}  // namespace kvlingua
