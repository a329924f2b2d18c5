// The whole quickstart on the embedded pair, killed at 20 random moments and started again each
// time: the report's numbers are those of a run that was left alone. Ctrl-C saves and says how to
// go on.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "kvlingua/base/random.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using Seconds = std::chrono::duration<double>;

pid_t start(const fs::path& out) {
  std::vector<std::string> words{KVLINGUA_BINARY, "quickstart",
                                 std::string(KVLINGUA_SOURCE_DIR) + "/recipe/nano.yaml", "--out",
                                 out.string()};
  for (const char* setting :
       {"data.synthetic.documents=300", "data.shard_bytes=4MiB", "projector.mlp.hidden=8",
        "projector.ridge.lambda=[1e-5]", "train.regression.batch.epochs=1",
        "train.distillation.items=200", "train.distillation.batch.steps=30", "checkpoint.every=5",
        "eval.items=20", "eval.families=[identity, counterfact]", "train.log_every=1"}) {
    words.emplace_back("--set");
    words.emplace_back(setting);
  }
  const pid_t child = ::fork();
  if (child == 0) {
    fs::create_directories(out);
    const int log = ::open((out / "log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(log, 1);
    ::dup2(log, 2);
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  return child;
}

// The exit status, or nothing after `limit`.
std::optional<int> wait_for(pid_t child, Seconds limit) {
  const auto begin = std::chrono::steady_clock::now();
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) != child) {
    if (std::chrono::steady_clock::now() - begin > limit) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return status;
}

std::string text_of(const fs::path& file) {
  std::ostringstream out;
  out << std::ifstream(file).rdbuf();
  return out.str();
}

nlohmann::json numbers(const fs::path& out) {
  const auto report = nlohmann::json::parse(text_of(out / "checkpoints/nano/eval/report.json"));
  nlohmann::json conditions = report.at("conditions");
  for (auto& [name, condition] : conditions.items()) {
    condition.erase("seconds");     // an answer that was found on the disk took none
    condition.erase("definition");  // names the run's folder
  }
  return {{"criteria", report.at("criteria")}, {"conditions", conditions}};
}

TEST(KillQuickstart, EndsWithTheSameNumbers) {
  const TempDir folder;
  const auto begin = std::chrono::steady_clock::now();
  int status = 0;
  ::waitpid(start(folder / "whole"), &status, 0);
  const Seconds whole = std::chrono::steady_clock::now() - begin;
  ASSERT_TRUE(WIFEXITED(status));
  ASSERT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3)
      << text_of(folder / "whole/log");
  const int code = WEXITSTATUS(status);
  const nlohmann::json expected = numbers(folder / "whole");

  Random random(20);
  const auto finished = [&](int ended) {
    ASSERT_TRUE(WIFEXITED(ended));
    ASSERT_EQ(WEXITSTATUS(ended), code) << text_of(folder / "killed/log");
    EXPECT_EQ(numbers(folder / "killed"), expected);
    fs::remove_all(folder / "killed");
  };
  int kills = 0;
  for (; kills < 20; ++kills) {
    // Mostly far enough to get on; now and then at once.
    const double share = random.chance(.2) ? .1 : .6;
    const pid_t child = start(folder / "killed");
    const auto ended = wait_for(child, whole * share * random.uniform());
    if (ended) {
      finished(*ended);
      continue;
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
  }
  ::waitpid(start(folder / "killed"), &status, 0);
  finished(status);
}

TEST(KillQuickstart, CtrlCSavesAndSaysHowToGoOn) {
  const TempDir folder;
  const fs::path out = folder / "stopped";
  const pid_t child = start(out);
  // In the middle of distillation.
  while (text_of(out / "log").find("step 12/30") == std::string::npos) {
    int status = 0;
    ASSERT_NE(::waitpid(child, &status, WNOHANG), child) << text_of(out / "log");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ::kill(child, SIGINT);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 130);
  const std::string log = text_of(out / "log");
  EXPECT_NE(log.find("stopped by Ctrl-C"), std::string::npos) << log;
  EXPECT_NE(log.find("saved"), std::string::npos) << log;
  ::waitpid(start(out), &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3));
  EXPECT_NE(text_of(out / "log").find("goes on from step"), std::string::npos);
}

}  // namespace
}  // namespace kvlingua
