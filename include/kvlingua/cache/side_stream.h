// SideStream: a GPU stream of its own, for what can go on beside the calling thread's work: copies
// ahead, a model that reads ahead. On a CPU everything here does nothing, and work is done in the
// order it is written in.
//
//   const auto guard = side.enter();            // kernels and copies now go to the side stream
//   ... make tensors ...
//   const SideStream::Mark made = side.mark();  // after all of them
//   (guard gone)  side.await(made); side.use(tensor);  ... use them on the current stream ...
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>

#include <memory>
#include <optional>

namespace kvlingua {

class SideStream {
 public:
  using Mark = std::shared_ptr<c10::Event>;

  // What the current stream holds already is waited for.
  explicit SideStream(at::Device device);
  bool active() const { return stream_.has_value(); }
  // Makes it the calling thread's current stream until the result goes.
  std::optional<c10::StreamGuard> enter() const;
  Mark mark() const;
  // The current stream goes on after `mark`; null: at once.
  void await(const Mark& mark) const;
  // A tensor made on the side stream is used on the current one: its memory is not given out again
  // before that is done.
  void use(const at::Tensor& tensor) const;

 private:
  at::Device device_;
  std::optional<c10::Stream> stream_;
};

}  // namespace kvlingua
