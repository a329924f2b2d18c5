// identity: keys and values as they are. Only for two models of one shape; the same-model control
// and the lower bound of what un-rotation, alignment and re-rotation alone achieve.
#pragma once

#include "kvlingua/projector/projector.h"

namespace kvlingua {

class IdentityProjector : public Projector {
 public:
  // Throws Error (kInput) naming both shapes when they differ.
  IdentityProjector(const KvShape& source, const KvShape& target);
  std::string kind() const override { return "identity"; }
  CacheRows translate_rows(const CacheRows& source, const CacheRows* own = nullptr,
                           uint64_t draw = 0) const override;
  void to(at::Device device, at::ScalarType) override { device_ = device; }
  at::Device device() const override { return device_; }

 private:
  at::Device device_ = at::kCPU;
};

}  // namespace kvlingua
