// The program with several processes on this machine, against one process: ridge sums, regression,
// distillation, and going on with another number of processes.
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
      "train.distillation.anchor=0.5",      "train.distillation.ce_weight=0.5"};
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
