// Pair sets of real weights: what is stored is what the models prefill. SmolLM2-135M into itself
// (KVLINGUA_MODELS) and the embedded pair.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "datasets/generate.h"
#include "datasets/generation/sample_builder.h"
#include "datasets/pairs/pair_reader.h"
#include "kvlingua/base/log.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/text/tokenizer.h"
#include "support/direct_prefill.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

struct Half {
  CausalLM model;
  Tokenizer tokenizer;
  TextReader reader;
};
Half load_half(const std::string& name, int64_t max_length) {
  ModelOptions options;
  options.name = name;
  Half half{CausalLM::load(name), Tokenizer::from_directory(name), {}};
  half.reader = TextReader::of(half.tokenizer, options, {.max_position_embeddings = max_length});
  return half;
}

KvCache direct(const Half& half, const std::vector<int32_t>& ids) {
  return testing::direct_prefill(half.model, half.reader, ids);
}

// The largest difference, in units of the largest number.
double distance(const at::Tensor& stored, const at::Tensor& made) {
  return ((stored - made).abs().max() / made.abs().max()).item<double>();
}

void expect_stored_is_prefilled(const std::string& source_name, const std::string& target_name) {
  set_log_level(LogLevel::kError);
  for (const bool alone : {true, false}) {
    const TempDir out;
    const Recipe recipe = Recipe::from_yaml(
        "name: real\npair:\n  source: {name: " + source_name + "}\n  target: {name: " +
            target_name + "}\ndata:\n  kind: synthetic\n  synthetic: {documents: 12, seed: 5}\n" +
            "  max_length: 256\n  batch_tokens: " + (alone ? "1" : "1024") + "\n",
        "real.yaml");
    RunContext context;
    context.paths.out = out.path();
    context.paths.dataset = out / "datasets";
    context.paths.run = out / "checkpoints";
    context.verbosity = -1;
    generate(recipe, context);
    const PairReader reader = PairReader::open(out / "datasets");
    ASSERT_EQ(reader.samples(), 12);
    const Half source = load_half(source_name, 256), target = load_half(target_name, 256);
    for (int64_t i = 0; i < reader.samples(); ++i) {
      const PairSample sample = reader.sample(i);
      const KvCache a = direct(source, sample.record.source.ids),
                    b = direct(target, sample.record.target.ids);
      for (const auto& [stored, made] : {std::pair{sample.source.keys(), a.keys()},
                                         {sample.source.values(), a.values()},
                                         {sample.target.keys(), b.keys()},
                                         {sample.target.values(), b.values()}}) {
        if (alone) {  // a batch of its own is the same batch: bit for bit
          EXPECT_TRUE(at::equal(stored, made)) << i;
        } else {
          EXPECT_LT(distance(stored, made), 1e-5) << i;
        }
      }
    }
  }
}

TEST(StoredPairs, OfTheEmbeddedPairAreWhatTheModelsPrefill) {
  const std::filesystem::path nano =
      std::filesystem::path(KVLINGUA_SOURCE_DIR) / "checkpoints/nano";
  expect_stored_is_prefilled((nano / "source").string(), (nano / "target").string());
}

TEST(StoredPairs, OfSmolLM2AreWhatItPrefills) {
  const char* models = std::getenv("KVLINGUA_MODELS");
  if (models == nullptr) GTEST_SKIP() << "KVLINGUA_MODELS is not set";
  const std::string model = std::string(models) + "/smollm2-135m-instruct";
  expect_stored_is_prefilled(model, model);
}

}  // namespace
}  // namespace kvlingua
