// LayerStream: the layers of a model larger than the device's memory, two at a time.
//
// The files stay mapped. While one layer is computed a thread of its own brings the next into the
// other of two places: pages, conversion, pinned staging and, on a GPU, copies on a stream of their
// own; of quantised matrices the codes travel, not the floats. Results are those of the resident
// model bit for bit: the same numbers meet the same operations. One pass over all layers reads all
// files once, so reading many tokens at once is what pays.
#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <array>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "load_weights.h"

namespace kvlingua {

class LayerStream {
 public:
  LayerStream(StoredWeights stored, const ModelConfig& config, const LoadOptions& options,
              const std::shared_ptr<Scratch>& scratch);
  ~LayerStream();
  LayerStream(const LayerStream&) = delete;
  LayerStream& operator=(const LayerStream&) = delete;

  // The weights of one layer, valid until the next call. What the caller has begun with the layer
  // before stays valid on the device's current stream. Throws Error as load_tensor.
  const LayerWeights& layer(int64_t index);

 private:
  // One of two places for a layer.
  struct Slot {
    NamedTensors named;  // of the layer, names behind layer_prefix()
    NamedParts parts;
    LayerWeights weights;
    int64_t loaded = -1;
    std::shared_ptr<c10::Event> used;  // on a GPU: after it nothing reads the place any more
  };
  void load(Slot& slot, int64_t index) const;
  void begin_loading(int64_t index);  // into the place that is not in use
  void finish_loading();
  std::shared_ptr<c10::Event> work_so_far() const;

  StoredWeights stored_;
  LoadOptions options_;
  std::optional<c10::Stream> stream_;  // of the copies, on a GPU
  std::array<Slot, 2> slots_;
  size_t current_ = 0;
  int64_t coming_ = -1;  // what `loading_` brings
  std::future<void> loading_;
  int64_t layers_;
};

}  // namespace kvlingua
