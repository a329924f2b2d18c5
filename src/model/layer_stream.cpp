#include "layer_stream.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace kvlingua {

LayerStream::LayerStream(StoredWeights stored, const ModelConfig& config,
                         const LoadOptions& options, const std::shared_ptr<Scratch>& scratch)
    : stored_(std::move(stored)), options_(options), layers_(config.num_layers) {
  for (Slot& slot : slots_) {
    slot.weights = allocate_layer(config,
                                  {.device = options.device,
                                   .dtype = options.dtype,
                                   .format = held_format(config, options),
                                   .scratch = scratch},
                                  slot.named, slot.parts);
  }
  options_.device = slots_[0].weights.input_norm.device();  // with its index, for other threads
  // One stream, as memory that was given out on one is not given out on another.
  if (!options_.device.is_cpu())
    stream_ = c10::impl::VirtualGuardImpl(options_.device.type())
                  .getStreamFromGlobalPool(options_.device, /*isHighPriority=*/false);
}

LayerStream::~LayerStream() {
  if (loading_.valid()) loading_.wait();
}

std::shared_ptr<c10::Event> LayerStream::work_so_far() const {
  if (options_.device.is_cpu()) return nullptr;
  auto event = std::make_shared<c10::Event>(options_.device.type());
  event->record(c10::impl::VirtualGuardImpl(options_.device.type()).getStream(options_.device));
  return event;
}

// Returns when the layer is on the device: nobody has to wait for the copies' stream.
void LayerStream::load(Slot& slot, int64_t index) const {
  const at::NoGradGuard no_grad;
  std::optional<c10::StreamGuard> on;
  if (stream_) {
    slot.used->synchronize();
    on.emplace(*stream_);
  }
  const std::string prefix = layer_prefix(index);
  for (const auto& [name, tensor] : slot.named)
    load_tensor(stored_, prefix + name, tensor, /*pinned=*/stream_.has_value());
  for (const auto& [name, part] : slot.parts) load_part(stored_, prefix + name, options_, *part);
  if (on) work_so_far()->synchronize();
}

void LayerStream::begin_loading(int64_t index) {
  Slot& slot = slots_[1 - current_];
  slot.loaded = -1;  // half a layer is none
  slot.used = work_so_far();
  coming_ = index;
  loading_ = std::async(std::launch::async, [this, &slot, index] { load(slot, index); });
}

void LayerStream::finish_loading() {
  const int64_t index = coming_;
  coming_ = -1;
  loading_.get();
  slots_[1 - current_].loaded = index;
}

const LayerWeights& LayerStream::layer(int64_t index) {
  if (index == slots_[current_].loaded) return slots_[current_].weights;
  if (coming_ >= 0 && coming_ != index) {  // not what was foreseen
    loading_.wait();
    loading_ = {};
    coming_ = -1;
  }
  if (coming_ < 0) begin_loading(index);
  finish_loading();
  current_ = 1 - current_;
  if (layers_ > 1) begin_loading((index + 1) % layers_);  // after the last comes the first
  return slots_[current_].weights;
}

}  // namespace kvlingua
