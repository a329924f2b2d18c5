// The program itself, killed at random steps and started again, against a run that was left alone.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "datasets/generate.h"
#include "kvlingua/base/random.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"

namespace kvlingua::testing {

class KillTraining {
 public:
  // `workers`: threads that make its batches (data.workers).
  explicit KillTraining(int64_t workers = 1) {
    save_tiny_pair(dir_.path());
    Recipe recipe = tiny_recipe(dir_.path());
    const std::vector<std::string> set{"name=tiny",
                                       "data.synthetic.documents=60",
                                       "data.validation=0.1",
                                       "projector.mlp.hidden=16",
                                       "projector.mlp.dropout=0.1",
                                       "projector.ridge.lambda=[1e-4, 1e-2]",
                                       "train.stages=[ridge, regression]",
                                       "train.log_every=1",
                                       "train.regression.batch.size=32",
                                       "train.regression.batch.steps=60",
                                       "train.regression.validate_every=9",
                                       "checkpoint.every=4",
                                       "data.workers=" + std::to_string(workers)};
    recipe = Recipe::from_yaml(recipe.to_yaml(), "tiny.yaml", set);
    std::ofstream(dir_ / "tiny.yaml") << recipe.to_yaml();
    for (const char* out : {"whole", "killed"}) {
      RunContext context = tiny_context(dir_ / out);
      generate(recipe, context);
    }
    EXPECT_EQ(finish("whole"), 0);
  }

  // Starts training afresh, stops it `times` times with `signal` at random steps, lets it finish
  // and compares everything.
  void trial(int signal, int times, Random& random) {
    std::filesystem::remove_all(run("killed"));
    int64_t stopped = 0;
    for (int i = 0; i < times; ++i) {
      const pid_t child = start("killed");
      const auto step = static_cast<int64_t>(1 + random.below(58));
      int status = 0;
      bool ended = false;
      // Another line for every step: wait for line `step`, counted in what the file holds now.
      while (!(ended = ::waitpid(child, &status, WNOHANG) == child) && lines("killed") < step)
        ::usleep(2000);
      if (!ended) {
        ::usleep(static_cast<useconds_t>(random.below(20000)));
        ::kill(child, signal);
        ::waitpid(child, &status, 0);
      }
      if (signal == SIGKILL ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 75)
        ++stopped;
    }
    ASSERT_EQ(finish("killed"), 0);
    EXPECT_GE(stopped + 1, times / 2);  // some kills come after the end
    for (const char* file : {"regression/projector.safetensors", "regression/optimizer.safetensors",
                             "metrics.jsonl"}) {
      EXPECT_EQ(bytes_of(run("killed") / file), bytes_of(run("whole") / file))
          << file << ", signal " << signal;
    }
  }

 private:
  std::filesystem::path run(const std::string& out) const {
    return dir_ / out / "checkpoints" / "tiny";
  }
  int64_t lines(const std::string& out) const {
    const std::string text = bytes_of(run(out) / "metrics.jsonl");
    return std::count(text.begin(), text.end(), '\n');
  }
  pid_t start(const std::string& out) const {
    const pid_t child = ::fork();
    if (child != 0) return child;
    const std::string recipe = (dir_ / "tiny.yaml").string(), to = (dir_ / out).string();
    ::setenv("OMP_NUM_THREADS", "1", 1);
    ::execl(KVLINGUA_BINARY, "kvlingua", "train", recipe.c_str(), "--out", to.c_str(), "-q",
            static_cast<char*>(nullptr));
    ::_exit(99);
  }
  int finish(const std::string& out) const {
    int status = 0;
    ::waitpid(start(out), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  TempDir dir_;
};

}  // namespace kvlingua::testing
