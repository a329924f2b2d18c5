#include "kvlingua/cache/side_stream.h"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace kvlingua {

using c10::impl::VirtualGuardImpl;

SideStream::SideStream(at::Device device) : device_(device) {
  if (device.is_cpu()) return;
  const VirtualGuardImpl backend(device.type());
  stream_ = backend.getStreamFromGlobalPool(device, /*isHighPriority=*/false);
  c10::Event before(device.type());
  before.record(backend.getStream(device));
  before.block(*stream_);
}

std::optional<c10::StreamGuard> SideStream::enter() const {
  if (!stream_) return std::nullopt;
  return std::optional<c10::StreamGuard>(std::in_place, *stream_);
}

SideStream::Mark SideStream::mark() const {
  if (!stream_) return nullptr;
  auto event = std::make_shared<c10::Event>(device_.type());
  event->record(*stream_);
  return event;
}

void SideStream::await(const Mark& mark) const {
  if (mark) mark->block(VirtualGuardImpl(device_.type()).getStream(device_));
}

void SideStream::use(const at::Tensor& tensor) const {
  if (!stream_ || !tensor.defined() || tensor.is_cpu()) return;
  const VirtualGuardImpl backend(device_.type());
  backend.recordDataPtrOnStream(tensor.storage().data_ptr(), backend.getStream(device_));
}

}  // namespace kvlingua
