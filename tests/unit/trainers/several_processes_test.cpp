// The program with several processes on this machine, against one process: ridge sums, regression,
// distillation, c2c, and going on with another number of processes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "datasets/generate.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/cache/tensor_file.h"
#include "support/free_port.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

class SeveralProcesses : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_log_level(LogLevel::kError);
    dir_ = new TempDir;
    kvlingua::testing::save_tiny_pair(dir_->path());
    const Recipe recipe =
        Recipe::from_yaml(kvlingua::testing::tiny_recipe(dir_->path()).to_yaml(), "tiny.yaml",
                          {"name=tiny", "data.synthetic.documents=120", "data.validation=0.1",
                           "projector.mlp.hidden=16", "projector.ridge.lambda=[1e-4, 1e-2]",
                           "train.stages=[ridge, regression]", "train.log_every=1",
                           "train.regression.batch.size=32", "train.regression.batch.steps=40",
                           "train.regression.validate_every=10", "checkpoint.every=8"});
    std::ofstream(*dir_ / "tiny.yaml") << recipe.to_yaml();
    generate(recipe, kvlingua::testing::tiny_context(dir_->path()));
    train("one", 1);
  }
  static void TearDownTestSuite() { delete dir_; }

  static pid_t start(const std::string& name, int rank, int size, int64_t port,
                     const std::vector<std::string>& set) {
    const pid_t child = ::fork();
    if (child != 0) return child;
    ::setenv("OMP_NUM_THREADS", "1", 1);
    if (size > 1) {
      ::setenv("RANK", std::to_string(rank).c_str(), 1);
      ::setenv("WORLD_SIZE", std::to_string(size).c_str(), 1);
      ::setenv("MASTER_ADDR", "127.0.0.1", 1);
      ::setenv("MASTER_PORT", std::to_string(port).c_str(), 1);
    }
    std::vector<std::string> words{
        "kvlingua", "train", (*dir_ / "tiny.yaml").string(), "--out", dir_->path().string(),
        "-q",       "--set", "checkpoint.name=" + name};
    for (const std::string& s : set) words.insert(words.end(), {"--set", s});
    std::vector<char*> argv;
    for (std::string& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    ::execv(KVLINGUA_BINARY, argv.data());
    ::_exit(99);
  }
  // Exit codes of the processes. `interrupt`: SIGTERM to the last of them once step 12 is logged.
  static std::vector<int> train(const std::string& name, int size, bool interrupt = false,
                                const std::vector<std::string>& set = {}) {
    const int64_t port = kvlingua::testing::free_port();
    std::vector<pid_t> children;
    for (int rank = 0; rank < size; ++rank) children.push_back(start(name, rank, size, port, set));
    if (interrupt) {
      for (int i = 0; i < 3000 && lines(name) < 13; ++i) ::usleep(5000);
      ::kill(children.back(), SIGTERM);
    }
    std::vector<int> codes;
    for (const pid_t child : children) {
      int status = 0;
      ::waitpid(child, &status, 0);
      codes.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    }
    return codes;
  }
  static fs::path run(const std::string& name) { return *dir_ / "checkpoints" / name; }
  static int64_t lines(const std::string& name) {
    std::ifstream file(run(name) / "metrics.jsonl");
    return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
  }
  // The largest difference of any tensor, relative to the largest number in it.
  static double distance(const fs::path& a, const fs::path& b) {
    const auto theirs = read_tensors(b);
    double worst = 0;
    for (const auto& [name, x] : read_tensors(a)) {
      const at::Tensor mine = x.to(at::kDouble), other = theirs.at(name).to(at::kDouble);
      worst = std::max(
          worst, ((mine - other).abs().max() / mine.abs().max().clamp_min(1e-30)).item<double>());
    }
    return worst;
  }

  static TempDir* dir_;
};
TempDir* SeveralProcesses::dir_ = nullptr;

TEST_F(SeveralProcesses, GiveTheRunOfOne) {
  for (const int size : {2, 4}) {
    const std::string name = "of-" + std::to_string(size);
    EXPECT_EQ(train(name, size), std::vector<int>(static_cast<size_t>(size), 0));
    for (const char* sums : {"train", "heldout"}) {
      const std::string file = std::string("ridge-sums/") + sums + ".safetensors";
      EXPECT_LT(distance(run("one") / file, run(name) / file), 1e-9) << file << ", " << size;
    }
    EXPECT_LT(distance(run("one") / "ridge/projector.safetensors",
                       run(name) / "ridge/projector.safetensors"),
              1e-6);
    EXPECT_LT(distance(run("one") / "regression/projector.safetensors",
                       run(name) / "regression/projector.safetensors"),
              2e-4)
        << size;
    EXPECT_EQ(lines(name), lines("one"));
  }
}

TEST_F(SeveralProcesses, ShareDistillation) {
  const std::vector<std::string> set{
      "train.stages=[ridge, distillation]", "train.distillation.items=48",
      "train.distillation.batch.size=4",    "train.distillation.batch.steps=12",
      "train.distillation.anchor=0.5",      "train.distillation.ce_weight=0.5",
      "train.distillation.continuations=16"};
  EXPECT_EQ(train("distilled-one", 1, false, set), std::vector<int>{0});
  EXPECT_EQ(train("distilled-two", 2, false, set), (std::vector<int>{0, 0}));
  const fs::path file = "distillation/projector.safetensors";
  EXPECT_LT(distance(run("distilled-one") / file, run("distilled-two") / file), 2e-4);
  // It has learned something, as its last matrix starts at zero: two stages that do nothing would
  // be equal too.
  EXPECT_GT(read_tensors(run("distilled-one") / file).at("out.weight").abs().max().item<float>(),
            1e-4);
  EXPECT_EQ(lines("distilled-two"), lines("distilled-one"));
  std::vector<std::string> odd = set;
  odd[2] = "train.distillation.batch.size=3";
  EXPECT_EQ(train("distilled-odd", 2, false, odd), (std::vector<int>{2, 2}));
}

// Micro-batches of a step are dealt, with their dropout and noise; an epoch ends with a window in
// which two of four processes have no part.
TEST_F(SeveralProcesses, ShareC2c) {
  std::ofstream chats(*dir_ / "chats.json");
  chats << "[";
  for (int i = 0; i < 30; ++i) {
    chats << (i > 0 ? ",\n" : "") << R"({"conversations": [{"from": "human", "value": "which of )"
          << i % 7 << R"( it is"}, {"from": "gpt", "value": "number )" << i % 7 << R"("}]})";
  }
  chats << "]\n";
  chats.close();
  std::vector<std::string> set{
      "data.kind=sharegpt",           "data.files=[" + (*dir_ / "chats.json").string() + "]",
      "data.max_length=256",          "projector.kind=c2c",
      "projector.c2c.hidden_dim=16",  "projector.c2c.intermediate_dim=24",
      "projector.c2c.anneal_steps=8", "train.stages=[c2c]",
      "train.c2c.batch.size=2",       "train.c2c.batch.accumulation=4",
      "train.c2c.batch.epochs=2",     "train.c2c.optimizer.lr=5e-3",
      "train.c2c.train_ratio=0.9",    "train.c2c.max_length=256"};
  EXPECT_EQ(train("c2c-one", 1, false, set), std::vector<int>{0});
  const fs::path file = "c2c/projector.safetensors";
  for (const int size : {2, 4}) {
    const std::string name = "c2c-" + std::to_string(size);
    EXPECT_EQ(train(name, size, false, set), std::vector<int>(static_cast<size_t>(size), 0));
    EXPECT_LT(distance(run("c2c-one") / file, run(name) / file), 2e-4) << size;
    EXPECT_EQ(lines(name), lines("c2c-one"));
  }
  EXPECT_GT(lines("c2c-one"), 7);  // two epochs of 27 conversations: 2 x 4 steps
  set[9] = "train.c2c.batch.accumulation=3";
  EXPECT_EQ(train("c2c-odd", 2, false, set), (std::vector<int>{2, 2}));
}

TEST_F(SeveralProcesses, StopTogetherAndGoOnInAnotherNumber) {
  EXPECT_EQ(train("stopped", 2, /*interrupt=*/true), (std::vector<int>{75, 75}));
  EXPECT_FALSE(fs::exists(run("stopped") / "regression"));
  EXPECT_EQ(train("stopped", 1), std::vector<int>{0});
  EXPECT_LT(distance(run("one") / "regression/projector.safetensors",
                     run("stopped") / "regression/projector.safetensors"),
            2e-4);
  EXPECT_EQ(lines("stopped"), lines("one"));
}

TEST_F(SeveralProcesses, ABatchThatCannotBeDealtIsRefused) {
  EXPECT_EQ(train("three", 3), (std::vector<int>{2, 2, 2}));
}

}  // namespace
}  // namespace kvlingua
