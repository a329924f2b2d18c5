#include "trainers/nano_lm/lm_trainer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "kvlingua/base/error.h"
#include "kvlingua/io/json_lines.h"
#include "kvlingua/io/sha256.h"
#include "trainers/nano_lm/lm_batches.h"
#include "trainers/nano_lm/lm_questions.h"
#include "trainers/nano_lm/lm_tokenizer.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

class LmTrainer : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("kvlingua_lm_" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  static LmOptions tiny(const std::string& architecture = "qwen2") {
    LmOptions options;
    options.out = "model";
    options.model = {.architecture = architecture,
                     .hidden_size = 32,
                     .intermediate_size = 48,
                     .layers = 2,
                     .heads = 4,
                     .kv_heads = 2,
                     .head_dim = 8};
    options.tokenizer = {.vocab_size = 500, .documents = 200, .syllable_count = 50};
    options.train.steps = 12;
    options.train.batch = 8;
    options.train.micro_batch = 4;
    options.train.warmup_steps = 2;
    options.train.log_every = 2;
    options.train.checkpoint_every = 5;
    options.train.validate_every = 0;
    return options;
  }

  LmRun run(const std::string& name) const {
    LmRun run;
    run.out = folder_ / name / "model";
    run.work = folder_ / name / "work";
    return run;
  }

  fs::path folder_;
};

TEST_F(LmTrainer, LossFallsAndTheModelIsWritten) {
  for (const std::string architecture : {"qwen2", "qwen3"}) {
    LmOptions options = tiny(architecture);
    options.train.steps = 120;
    std::vector<double> losses;
    LmRun where = run(architecture);
    where.on_step = [&](const LmStepLine& line) { losses.push_back(line.loss); };
    const LmResult result = train_language_model(options, where);
    EXPECT_EQ(result.steps, 120);
    ASSERT_EQ(losses.size(), 60u);
    EXPECT_LT(losses.back(), .65 * losses.front()) << architecture;
    const CausalLM model = CausalLM::load(where.out);
    EXPECT_EQ(to_string(model.config().architecture),
              architecture == "qwen2" ? "Qwen2ForCausalLM" : "Qwen3ForCausalLM");
    EXPECT_EQ(model.config().eos_ids.size(), 2u);
    const Tokenizer tokenizer = Tokenizer::from_directory(where.out);
    EXPECT_EQ(tokenizer.vocab_size(), model.config().vocab_size);
    EXPECT_EQ(recognise_chat_family(tokenizer), ChatFamily::kQwen3);
  }
}

TEST_F(LmTrainer, InterruptedAndResumedGivesTheSameBits) {
  const LmOptions options = tiny();
  train_language_model(options, run("straight"));
  int steps = 0;
  LmRun first = run("broken");
  first.should_stop = [&] { return ++steps == 7; };
  const LmResult stopped = train_language_model(options, first);
  EXPECT_TRUE(stopped.stopped);
  EXPECT_FALSE(fs::exists(folder_ / "broken/model/model.safetensors"));
  train_language_model(options, run("broken"));
  EXPECT_EQ(sha256_file(folder_ / "straight/model/model.safetensors"),
            sha256_file(folder_ / "broken/model/model.safetensors"));
  // The curve has every step once. (Step 8's line covers one step in one run and two in the other.)
  std::vector<int64_t> seen;
  for (const auto& line : read_json_lines(folder_ / "broken/work/loss.jsonl"))
    seen.push_back(line["step"]);
  EXPECT_EQ(seen, (std::vector<int64_t>{2, 4, 6, 8, 10, 12}));
}

TEST_F(LmTrainer, StateOfAnotherRecipeIsRefused) {
  LmOptions options = tiny();
  options.train.steps = 2;
  train_language_model(options, run("a"));
  options.train.muon_lr = .5;
  EXPECT_THROW(train_language_model(options, run("a")), Error);
  LmRun again = run("a");
  again.resume = false;
  EXPECT_EQ(train_language_model(options, again).steps, 2);
}

TEST_F(LmTrainer, MicroBatchesDoNotChangeTheGradient) {
  const LmOptions options = tiny();
  write_nano_tokenizer(options.tokenizer, folder_);
  const Tokenizer tokenizer = Tokenizer::from_directory(folder_);
  ModelConfig config;
  config.architecture = Architecture::kQwen2;
  config.vocab_size = tokenizer.vocab_size();
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.max_position_embeddings = 512;
  config.qkv_bias = config.tie_word_embeddings = true;
  config.rope.head_dim = 8;
  CausalLM model = CausalLM::random(config, {}, 3);
  const auto gradients = [&](int64_t micro_batch) {
    for (auto& [name, tensor] : model.parameters()) {
      tensor.set_requires_grad(true);
      tensor.mutable_grad().reset();
    }
    const LmBatches batches(SyntheticCorpus(1), tokenizer, ChatFamily::kQwen3, 8, micro_batch);
    for (const auto& micro : batches.step(0, at::kCPU)) {
      PrefillOptions prefill;
      prefill.logits = LogitsAt::kPositions;
      prefill.logit_positions = micro.positions_N2;
      const at::Tensor logits = model.prefill(micro.batch, nullptr, prefill).logits;
      at::cross_entropy_loss(logits, micro.targets_N, {}, at::Reduction::None)
          .mul(micro.weights_N)
          .sum()
          .backward();
    }
    std::vector<at::Tensor> all;
    for (auto& [name, tensor] : model.parameters()) all.push_back(tensor.grad().clone());
    return all;
  };
  const auto whole = gradients(8), parts = gradients(3);
  ASSERT_EQ(whole.size(), parts.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_LT((whole[i] - parts[i]).abs().max().item<double>(),
              1e-5 + 1e-4 * whole[i].abs().max().item<double>());
  }
}

TEST_F(LmTrainer, TokenizerCutsInventedWordsAtSyllables) {
  LmTokenizerOptions options;
  options.documents = 3000;
  write_nano_tokenizer(options, folder_);
  const Tokenizer tokenizer = Tokenizer::from_directory(folder_);
  EXPECT_EQ(tokenizer.vocab_size(), 800);
  Random random(1);
  int64_t tokens = 0;
  for (int i = 0; i < 300; ++i) {
    const std::string word = " " + invent_place(Split::kHeldOut, random);
    const Encoding encoding = tokenizer.encode(word, false);
    tokens += static_cast<int64_t>(encoding.size());
    EXPECT_EQ(tokenizer.decode(encoding.ids), word);
  }
  EXPECT_LT(tokens, 300 * 3.2);
  EXPECT_GT(tokens, 300 * 2);
}

TEST(LmQuestions, GoldAnswersHoldTheirMarkersAndPromptsDoNot) {
  const auto sets = lm_question_sets(70, 1);
  EXPECT_EQ(sets.size(), 16u);
  for (const auto& set : sets) {
    EXPECT_GE(set.questions.size(), 60u) << set.name;
    for (const auto& question : set.questions) {
      for (const auto& marker : question.markers) {
        EXPECT_NE(question.answer.find(marker), std::string::npos) << set.name;
        EXPECT_EQ(question.prompt.find(marker), std::string::npos) << set.name;
      }
      EXPECT_EQ(question.context.empty(),
                set.name.starts_with("baseline") || set.name.starts_with("facts/"));
    }
  }
}

}  // namespace
}  // namespace kvlingua
