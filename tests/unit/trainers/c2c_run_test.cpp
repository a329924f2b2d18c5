// Stage c2c on two tiny random models: it learns, resumes to the same bits wherever it is stopped,
// runs a Cache-to-Cache recipe as it is, and goes on from a Cache-to-Cache folder.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "checkpoints/c2c_import.h"
#include "checkpoints/load_projector.h"
#include "checkpoints/store.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/json_lines.h"
#include "kvlingua/projector/c2c.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"
#include "trainers/c2c/fusion_batches.h"
#include "trainers/train.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class C2cStage : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_log_level(LogLevel::kError);
    dir_ = new TempDir();
    kvlingua::testing::save_tiny_pair(dir_->path());
    // Larger weights: what a target reads must show in what it says, or there is nothing to learn.
    for (const char* side : {"source", "target"}) {
      const CausalLM model = CausalLM::load(dir_->path() / side);
      for (const auto& [name, tensor] : model.parameters()) {
        if (tensor.dim() == 2) tensor.mul_(name.find("embed") != std::string::npos ? 8.0 : 12.0);
      }
      model.save(dir_->path() / side, at::kFloat);
    }
    std::ofstream chats(dir_->path() / "chats.json");
    chats << "[";
    for (int i = 0; i < 60; ++i) {
      const std::string value = std::to_string(i % 7);
      chats << (i ? ",\n" : "") << R"({"conversations": [{"from": "system", "value": "x"},)"
            << R"({"from": "human", "value": " which number is it, )" << value << " or "
            << std::string(static_cast<size_t>(i % 5 + 1), 'a') << R"(? "},)"
            << R"({"from": "gpt", "value": "it is )" << value << R"("}]})";
    }
    chats << "]\n";
  }
  static void TearDownTestSuite() { delete dir_; }

  static Recipe recipe(const std::vector<std::string>& set = {}) {
    std::vector<std::string> all{"data.kind=sharegpt",
                                 "data.files=[" + (dir_->path() / "chats.json").string() + "]",
                                 "data.max_length=256",
                                 "projector.kind=c2c",
                                 "projector.c2c.hidden_dim=16",
                                 "projector.c2c.intermediate_dim=24",
                                 "projector.c2c.anneal_steps=20",
                                 "train.stages=[c2c]",
                                 "train.log_every=1",
                                 "train.c2c.batch.size=4",
                                 "train.c2c.batch.accumulation=2",
                                 "train.c2c.batch.epochs=3",
                                 "train.c2c.optimizer.lr=5e-3",
                                 "train.c2c.train_ratio=0.9",
                                 "train.c2c.validate_every=7",
                                 "train.c2c.max_length=256",
                                 "checkpoint.every=4"};
    all.insert(all.end(), set.begin(), set.end());
    return Recipe::from_yaml(kvlingua::testing::tiny_recipe(dir_->path()).to_yaml(), "tiny.yaml",
                             all);
  }
  static RunContext context(const std::string& run) {
    RunContext c = kvlingua::testing::tiny_context(dir_->path());
    c.paths.run = dir_->path() / "checkpoints" / run;
    return c;
  }

  static TempDir* dir_;
};
TempDir* C2cStage::dir_ = nullptr;

TEST_F(C2cStage, LearnsAndSaysSo) {
  const TrainResult result = train(recipe(), context("learns"));
  ASSERT_EQ(result.stages.size(), 1u);
  const StageResult& stage = result.stages[0];
  EXPECT_EQ(stage.steps, 21);  // 54 conversations: 14 batches, 7 windows an epoch
  EXPECT_LT(stage.last_loss, .9 * stage.first_loss);
  EXPECT_GT(stage.validation.cross_entropy.value(), 0);
  const auto lines = read_json_lines(context("learns").paths.run / "metrics.jsonl");
  EXPECT_EQ(lines.front()["lr"], 0);
  EXPECT_EQ(lines.front()["temperature"], 1);
  EXPECT_EQ(load_projector(context("learns").paths.run).projector->kind(), "c2c");
  EXPECT_EQ(stage.took["phases"]["steps"]["units"], 20);  // beside the first
  EXPECT_GT(stage.took["peak_memory_bytes"].get<double>(), 0);
  EXPECT_GT(stage.took["peak_share"].get<double>(), 0);
  EXPECT_GT(stage.took["peak_flops"].get<double>(), 1e8);
  // Again: nothing left to do.
  auto first = nlohmann::json::parse(result.to_json().dump());
  for (const char* measured : {"total_seconds", "start_memory_bytes", "peak_memory_bytes", "phases",
                               "peak_share", "peak_flops"})
    first["stages"][0].erase(measured);
  EXPECT_EQ(nlohmann::json::parse(train(recipe(), context("learns")).to_json().dump()), first);
}

TEST_F(C2cStage, KeptAndUnkeptSourceCachesTrainAlike) {
  std::vector<double> first;
  for (const char* response : {"false", "true"}) {
    std::vector<double> losses;
    for (const char* keep : {"none", "memory", "disk"}) {
      const std::string name = cat(keep, "-", response);
      const auto result =
          train(recipe({cat("train.c2c.source_cache=", keep),
                        cat("train.c2c.include_response=", response), "projector.c2c.dropout=0"}),
                context(name));
      losses.push_back(result.stages[0].last_loss);
      EXPECT_FALSE(fs::exists(context(name).paths.run / ".source-cache"));
    }
    EXPECT_NEAR(losses[1], losses[0], 1e-3) << response;
    EXPECT_EQ(losses[2], losses[1]) << response;
    first.push_back(losses[0]);
  }
  EXPECT_GT(std::abs(first[1] - first[0]), 1e-4);
}

TEST_F(C2cStage, CheckpointedActivationsTrainAlike) {
  const auto loss = [&](const std::string& name, const char* on) {
    return train(recipe({cat("train.c2c.checkpoint_activations=", on)}), context(name))
        .stages[0]
        .last_loss;
  };
  const double stored = loss("stored", "false");
  EXPECT_EQ(loss("recomputed", "true"),
            stored);  // layers and towers, dropout included: the same bits
  EXPECT_EQ(loss("automatic", "auto"), stored);
}

// Stopped after several steps, within and at the end of an epoch: the same bits as left alone.
TEST_F(C2cStage, ResumesToTheSameBits) {
  for (const char* keep : {"none", "memory"}) {
    const Recipe r = recipe({cat("train.c2c.source_cache=", keep)});
    const RunContext whole = context(cat("whole-", keep)), cut = context(cat("cut-", keep));
    train(r, whole);
    // Every checkpoint of the other run but one is thrown away: as if it had been killed there.
    train(r, cut);
    for (const int64_t step : {4, 8, 16, 20}) {
      fs::remove_all(cut.paths.run);
      Recipe part = recipe({cat("train.c2c.source_cache=", keep)});
      part.checkpoint.keep_last = 100;
      train(part, cut);
      for (const fs::path& folder : list_checkpoints(cut.paths.run)) {
        char name[32];
        std::snprintf(name, sizeof name, "step-%06lld", static_cast<long long>(step));
        if (folder.filename().string() > name) fs::remove_all(folder);
      }
      fs::remove(cut.paths.run / "c2c");
      fs::remove(cut.paths.run / "latest");
      train(r, cut);
      for (const char* file : {"projector.safetensors", "optimizer.safetensors"}) {
        EXPECT_EQ(bytes_of(cut.paths.run / "c2c" / file), bytes_of(whole.paths.run / "c2c" / file))
            << file << " from step " << step << ", cache " << keep;
      }
      EXPECT_EQ(bytes_of(cut.paths.run / "metrics.jsonl"),
                bytes_of(whole.paths.run / "metrics.jsonl"))
          << "from step " << step;
    }
  }
}

TEST_F(C2cStage, RunsItsOwnRecipeAsItIs) {
  const std::string text = R"({
    "model": {"base_model": ")" +
                           (dir_->path() / "target").string() + R"(",
      "teacher_model": ")" +
                           (dir_->path() / "source").string() + R"(", "is_do_alignment": true,
      "alignment_strategy": "longest",
      "projector": {"type": "C2CProjector", "params": {"hidden_dim": 16, "intermediate_dim": 16,
        "num_layers": 3, "dropout": 0.1, "anneal_steps": 6}}, "mapping": "last_aligned"},
    "training": {"learning_rate": 0.001, "weight_decay": 0.01, "num_epochs": 1, "max_length": 300,
      "device": "cuda", "scheduler_type": "linear", "warmup_ratio": 0.1, "max_grad_norm": 1.0,
      "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "num_processes": 8,
      "freeze": ["teacher", "base"], "seed": 42},
    "output": {"output_dir": "local/checkpoints/tiny", "save_steps": 3, "eval_steps": 3,
      "wandb_config": {"project": "p", "mode": "offline", "entity": "e", "run_name": "r"}},
    "data": {"type": "OpenHermesChatDataset", "kwargs": {"split": "train", "num_samples": 50,
      "max_word_count": 300, "dataset_path": ")" +
                           (dir_->path() / "chats.json").string() + R"("}, "train_ratio": 0.9}})";
  const Recipe r =
      Recipe::from_yaml(text, "tiny.json", {"pair.source.chat=qwen3", "pair.target.chat=qwen2.5"});
  const TrainResult result = train(r, context("json"));
  EXPECT_EQ(result.stages[0].steps, 6);  // 45 conversations: 12 batches of 4, 2 a step
  EXPECT_THAT(result.table.text(), ::testing::HasSubstr("alignment longest"));
}

TEST_F(C2cStage, LowPrecisionWeightsAndUnweightedMicroBatches) {
  const auto result =
      train(recipe({"train.c2c.low_precision_weights=true",
                    "train.c2c.unweighted_micro_batches=true", "train.c2c.batch.steps=3"}),
            context("low"));
  EXPECT_EQ(result.stages[0].steps, 3);
  const auto found = find_checkpoint(context("low").paths.run);
  ASSERT_TRUE(found);
  const Checkpoint c = read_checkpoint(found->path);
  EXPECT_EQ(c.projector.front().second.scalar_type(), at::kBFloat16);
  for (const auto& [name, tensor] : c.optimizer) EXPECT_NE(name, "weights");  // no master copy
}

TEST_F(C2cStage, GoesOnFromItsCheckpointFolder) {
  train(recipe(), context("for-export"));
  const auto loaded = load_projector(context("for-export").paths.run);
  const auto& c2c = dynamic_cast<const C2CProjector&>(*loaded.projector);
  write_c2c_directory(c2c.fuser(), dir_->path() / "fuser");
  const std::vector<std::string> set{"train.start_from=" + (dir_->path() / "fuser").string(),
                                     "train.c2c.batch.steps=1",
                                     "train.c2c.optimizer.warmup_ratio=1"};
  train(recipe(set), context("from-fuser"));
  // One step at rate 0: the weights are those of the folder.
  const auto after = load_projector(context("from-fuser").paths.run);
  for (const auto& [name, tensor] : after.projector->parameters()) {
    for (const auto& [other, expected] : loaded.projector->parameters()) {
      if (name == other) {
        EXPECT_TRUE(at::equal(tensor, expected)) << name;
      }
    }
  }
}

TEST_F(C2cStage, RefusesWhatItCannotTrain) {
  const auto refused = [&](const std::vector<std::string>& set) {
    try {
      train(recipe(set), context("refused"));
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("ran");
  };
  EXPECT_THAT(refused({"train.stages=[ridge, c2c]"}), ::testing::HasSubstr("c2c alone"));
  EXPECT_THAT(refused({"projector.kind=ridge"}), ::testing::HasSubstr("projector.kind c2c"));
  EXPECT_THAT(refused({"projector.c2c.mode=translate"}), ::testing::HasSubstr("distillation"));
  EXPECT_THAT(refused({"data.kind=plain"}), ::testing::HasSubstr("conversations"));
  EXPECT_THAT(refused({"train.c2c.max_length=4"}), ::testing::HasSubstr("no conversation is left"));
}

TEST(FusionBatches, EveryItemOnceAnEpochInLikeLengths) {
  std::vector<FusionBatches::Item> items;
  for (int64_t i = 0; i < 1003; ++i) items.push_back({i * 37 % 101, i % 10 == 0 ? 2 : 1});
  FusionBatches batches(items, 4, 5);
  int64_t wasted = 0;
  std::vector<int64_t> first;
  for (int epoch = 0; epoch < 2; ++epoch) {
    std::vector<int> seen(items.size());
    for (int64_t b = 0; b < batches.per_epoch(); ++b) {
      const auto batch = batches.next(1).at(0);
      int64_t longest = 0;
      for (const int64_t i : batch)
        longest = std::max(longest, items[static_cast<size_t>(i)].length);
      for (const int64_t i : batch) {
        ++seen[static_cast<size_t>(i)];
        wasted += longest - items[static_cast<size_t>(i)].length;
        EXPECT_EQ(items[static_cast<size_t>(i)].pattern,
                  items[static_cast<size_t>(batch[0])].pattern);
      }
    }
    for (const int count : seen) EXPECT_EQ(count, 1);
  }
  EXPECT_LT(wasted, 2 * 1003 * 3);  // without bucketing about 30 a row
  // A window never runs over the end of an epoch, and a position can be gone back to.
  FusionBatches again(items, 4, 5);
  const auto at = again.state();
  const auto one = again.next(1000);
  EXPECT_EQ(static_cast<int64_t>(one.size()), again.per_epoch());
  again.restore(at);
  EXPECT_EQ(again.next(1000), one);
  again.seek(again.per_epoch() + 3);
  EXPECT_EQ(again.state()["epoch"], 1);
  EXPECT_EQ(again.state()["position"], 3);
}

}  // namespace
}  // namespace kvlingua
