// The embedded pair keeps what its README says: 500 held-out items of each kind, weights as
// shipped.
#include <gtest/gtest.h>

#include <filesystem>

#include "kvlingua/model/causal_lm.h"
#include "kvlingua/text/tokenizer.h"
#include "trainers/nano_lm/lm_validation.h"

namespace kvlingua {
namespace {

const std::filesystem::path kPair = std::filesystem::path(KVLINGUA_SOURCE_DIR) / "checkpoints/nano";

class NanoPair : public testing::TestWithParam<std::string> {};

TEST_P(NanoPair, ReadsItsContextKnowsItsFactsAndNeverStalls) {
  const auto scores =
      validate_language_model_at(kPair / GetParam(), at::kCPU, {.items = 500, .seed = 7});
  std::cout << describe(scores) << "\n";
  for (const std::string& line : shortfalls(scores, .95)) ADD_FAILURE() << line;
  for (const LmScore& score : scores) {
    // Without its context the model has no way to the answer, and says so.
    if (score.name.starts_with("baseline identity") ||
        score.name.starts_with("baseline counterfact")) {
      EXPECT_GE(score.rate(), .95) << score.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, NanoPair, testing::Values("source", "target"),
                         [](const auto& info) { return info.param; });

TEST(NanoPairFiles, AreTwoModelsWithOneTokenizer) {
  const Tokenizer source = Tokenizer::from_directory(kPair / "source");
  const Tokenizer target = Tokenizer::from_directory(kPair / "target");
  EXPECT_EQ(source.fingerprint(), target.fingerprint());
  const CausalLM a = CausalLM::load(kPair / "source"), b = CausalLM::load(kPair / "target");
  EXPECT_EQ(a.config().architecture, Architecture::kQwen3);
  EXPECT_EQ(b.config().architecture, Architecture::kQwen2);
  EXPECT_NE(a.config().hidden_size, b.config().hidden_size);
  EXPECT_NE(a.kv_shape(), b.kv_shape());
  for (const char* role : {"source", "target"}) {
    EXPECT_LT(std::filesystem::file_size(kPair / role / "model.safetensors"), 4u << 20);
  }
}

}  // namespace
}  // namespace kvlingua
