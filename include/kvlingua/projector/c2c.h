// The Cache-to-Cache projector as one of kvlingua's kinds (c2c_fuser.h has its numerics).
//
// fuse mode (the reference's): the target reads the text too, `own` is its cache; keys are taken
// rotated, as both models' attention sees them, and the result stands where `own` stands. translate
// mode: the target never reads the text, its part is zero, keys are un-rotated on both sides as for
// every other kind.
#pragma once

#include <string>

#include "kvlingua/config/projector_options.h"
#include "kvlingua/projector/c2c_fuser.h"
#include "kvlingua/projector/projector.h"

namespace kvlingua {

ParameterCount count_parameters(const C2cOptions& options, const KvShape& source,
                                const KvShape& target);

class C2CProjector : public Projector {
 public:
  C2CProjector(KvShape source, KvShape target, const C2cOptions& options, uint64_t seed = 0);
  // Around an imported fuser. Throws Error (kUsage) for an unknown mode.
  C2CProjector(C2CFuser fuser, const std::string& mode);

  std::string kind() const override { return "c2c"; }
  bool fuses() const override { return fuses_; }
  KvCache translate(const TranslateInput& input) const override;
  // Rows are un-rotated; without `own` the target's part is zero.
  CacheRows translate_rows(const CacheRows& source, const CacheRows* own = nullptr,
                           uint64_t draw = 0) const override;
  NamedTensors parameters() const override { return fuser_.parameters(); }
  NamedTensors buffers() const override;
  nlohmann::json config() const override;
  void to(at::Device device, at::ScalarType dtype) override { fuser_.to(device, dtype); }
  at::Device device() const override { return fuser_.parameters()[0].second.device(); }

  const C2CFuser& fuser() const { return fuser_; }
  C2CFuser& fuser() { return fuser_; }

 private:
  C2CFuser::Mode mode(uint64_t draw) const;

  C2CFuser fuser_;
  bool fuses_;
};

}  // namespace kvlingua
