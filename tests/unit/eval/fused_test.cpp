// The condition `fused`: a Cache-to-Cache projector in fuse mode, whose target reads the context
// too.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlingua/projector/c2c.h"
#include "support/eval_pair.h"

namespace kvlingua {
namespace {

using testing::nano_probes;
using testing::SelfPair;

struct FusedPair : SelfPair {
  FusedPair()
      : SelfPair(Architecture::kQwen3), fused(model.kv_shape(), model.kv_shape(), small(), 3) {}

  static C2cOptions small() {
    C2cOptions options;
    options.hidden_dim = options.intermediate_dim = 16;
    return options;
  }
  void open_gates() const {
    const c10::NoGradGuard no_grad;
    for (const auto& [name, tensor] : fused.fuser().parameters()) {
      if (name == "gate_logit") tensor.fill_(1);
      if (name == "proj_out.weight") tensor.mul_(8);
    }
  }
  Evaluation run() const {
    std::vector<Probe> probes = nano_probes("identity", 8);
    EvaluationInput in = input(probes, {"fused"});
    in.projectors.insert_or_assign("fused", NamedProjector{&fused, "run/c2c"});
    in.options.gated = "fused";
    return run_evaluation(in);
  }
  // How many items it answers as with the whole text, and as without any context.
  static std::pair<int64_t, int64_t> equal(const Evaluation& result) {
    int64_t full = 0, none = 0;
    for (const Answer* answer : result.answers.of("fused")) {
      full += answer->ids == result.answers.find("full_text", answer->item)->ids;
      none += answer->ids == result.answers.find("baseline", answer->item)->ids;
    }
    return {full, none};
  }

  C2CProjector fused;
};

// An untrained projector is closed, strictly: the target keeps its own cache.
TEST(Fused, ClosedGatesLeaveTheTargetWhatItRead) {
  const FusedPair pair;
  const Evaluation result = pair.run();
  const auto n = static_cast<int64_t>(result.answers.of("fused").size());
  ASSERT_EQ(n, 8);
  const auto [full, none] = FusedPair::equal(result);
  EXPECT_EQ(full, n);
  EXPECT_LT(none, n) << "a context that changes nothing would prove nothing";
}

TEST(Fused, OpenGatesChangeWhatItSays) {
  const FusedPair pair;
  pair.open_gates();
  const Evaluation result = pair.run();
  EXPECT_LT(FusedPair::equal(result).first, 8);
}

}  // namespace
}  // namespace kvlingua
