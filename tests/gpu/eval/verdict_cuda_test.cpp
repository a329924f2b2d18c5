// On a CUDA device an injected cache answers as the text does, bit for bit, in every type: else no
// verdict is given there. Skips aloud without a device.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/eval_pair.h"

namespace kvlingua {
namespace {

class CudaVerdict : public ::testing::TestWithParam<std::tuple<Architecture, at::ScalarType>> {
 protected:
  void SetUp() override {
    if (at::getNumGPUs() == 0) GTEST_SKIP() << "no CUDA device";
  }
};
INSTANTIATE_TEST_SUITE_P(
    All, CudaVerdict,
    ::testing::Combine(::testing::Values(Architecture::kQwen2, Architecture::kQwen3,
                                         Architecture::kLlama),
                       ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf)));

TEST_P(CudaVerdict, AnInjectedCacheEqualsTheText) {
  LoadOptions load;
  load.device = at::Device("cuda:0");
  load.dtype = std::get<1>(GetParam());
  const testing::SelfPair pair(std::get<0>(GetParam()), load);
  EvaluationInput input = pair.input(testing::nano_probes("identity", 80),
                                     {"noise", "shuffled", "same_cache", "wrong_text", "identity"});
  const Evaluation result = run_evaluation(input);
  int64_t differ = 0;
  for (const Answer* answer : result.answers.of("same_cache")) {
    const Answer* text = result.answers.find("full_text", answer->item);
    differ += answer->ids != text->ids || answer->nll_answer != text->nll_answer;
  }
  EXPECT_EQ(differ, 0) << "of 80";
}

}  // namespace
}  // namespace kvlingua
