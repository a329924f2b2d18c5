// Crash tests of generation: a child process dies, the parent looks at what it left and finishes
// the work.
//
// The child is this test program again, running the test GenerateCrash.Child in a folder named by
// the environment; the fault comes from KVLINGUA_FAULT (io/file_ops.h), or from the parent's
// SIGKILL.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "datasets/generate.h"
#include "datasets/pairs/pair_manifest.h"
#include "datasets/pairs/verify.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/random.h"
#include "kvlingua/io/file_ops.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"

extern char** environ;

namespace kvlingua::testing {

class CrashLab {
 public:
  CrashLab() {
    set_log_level(LogLevel::kOff);
    save_tiny_pair(models_.path());
    file_ops::set_fault("");
    const TempDir out;
    run(out.path());
    operations_ = file_ops::count();
    reference_ = hashes(out.path());
  }

  // Three shards of a few samples: every step of a publication, and little else. The child reads
  // from the environment how many are written at once.
  static GenerateResult run_in(const std::filesystem::path& models,
                               const std::filesystem::path& out) {
    Recipe recipe = tiny_recipe(models, "  max_samples: 18\n");
    recipe.data.batch_tokens = 256;
    recipe.data.shard_bytes = 100000;
    const char* writers = std::getenv("KVLINGUA_CRASH_WRITERS");
    return generate(recipe, tiny_context(out), writers == nullptr ? 0 : std::atoll(writers));
  }
  GenerateResult run(const std::filesystem::path& out) const { return run_in(models_.path(), out); }
  int64_t operations() const { return operations_; }

  static std::vector<std::string> hashes(const std::filesystem::path& out) {
    std::vector<std::string> list;
    const auto manifest = load_pair_manifest(out / "datasets/tiny");
    if (!manifest) return list;
    for (const auto& [index, shard] : manifest->shards) list.push_back(shard.sha256);
    return list;
  }

  // Whatever is listed stands whole; what is missing is made; the end is the uninterrupted run's.
  void check_and_finish(const std::filesystem::path& out, const std::string& what) const {
    const std::vector<std::string> before = hashes(out);
    if (!before.empty()) {
      const VerifyResult left = verify_pairs(out / "datasets/tiny");
      EXPECT_TRUE(left.clean()) << what << ": "
                                << (left.clean()
                                        ? ""
                                        : left.problems[0].file + " " + left.problems[0].what);
    }
    const GenerateResult finished = run(out);
    EXPECT_TRUE(finished.complete) << what;
    const std::vector<std::string> after = hashes(out);
    EXPECT_EQ(after, reference_) << what;
    EXPECT_GE(finished.resumed_samples, before.empty() ? 0 : 1)
        << what;  // what was acknowledged is not made again
    EXPECT_TRUE(verify_pairs(out / "datasets/tiny").clean()) << what;
    for (const auto& entry : std::filesystem::directory_iterator(out / "datasets/tiny")) {
      EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos)
          << what << ": leftover " << entry.path();
    }
  }

  pid_t start_child(const std::filesystem::path& out, const std::string& fault) const {
    std::vector<std::string> environment;
    for (char** e = environ; *e != nullptr; ++e) {
      if (std::string(*e).rfind("KVLINGUA_FAULT=", 0) != 0) environment.push_back(*e);
    }
    environment.push_back("KVLINGUA_CRASH_OUT=" + out.string());
    environment.push_back("KVLINGUA_CRASH_MODELS=" + models_.path().string());
    if (!fault.empty()) environment.push_back("KVLINGUA_FAULT=" + fault);
    std::vector<char*> env, argv;
    for (std::string& e : environment) env.push_back(e.data());
    env.push_back(nullptr);
    std::string program = "/proc/self/exe", filter = "--gtest_filter=GenerateCrash.Child",
                brief = "--gtest_brief=1";
    argv = {program.data(), filter.data(), brief.data(), nullptr};
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    pid_t child = 0;
    EXPECT_EQ(posix_spawn(&child, self.c_str(), nullptr, nullptr, argv.data(), env.data()), 0);
    return child;
  }
  // The child's wait status.
  static int wait_for(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }

  // Dies at file operation n.
  void kill_at(int64_t n) const {
    const TempDir out;
    const int status = wait_for(start_child(out.path(), "kill@" + std::to_string(n)));
    const std::string what = "killed at operation " + std::to_string(n);
    if (n <= operations_) {
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << what;
    }
    check_and_finish(out.path(), what);
  }
  // The disk is full, or fails, at operation 1, 1 + step, ...: once or from then on,
  // as `fault` says.
  void bad_disk_at_every(int64_t step, const std::string& fault) const {
    const bool full = fault.starts_with("enospc");
    int tried = 0, failed = 0;
    for (int64_t n = 1; n <= operations_; n += step) {
      const TempDir out;
      ++tried;
      file_ops::set_fault(cat(fault, "@", n));
      try {
        run(out.path());
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), full ? ExitCode::kDiskFull : ExitCode::kFailed)
            << n << ": " << e.what();
        ++failed;
      }
      file_ops::set_fault("");
      check_and_finish(out.path(), cat(fault, " at operation ", n));
    }
    EXPECT_GT(failed, tried / 2);
  }
  // Operation n, if a write, writes half of what it was given.
  void short_write_at_every(int64_t step) const {
    for (int64_t n = 1; n <= operations_; n += step) {
      const TempDir out;
      file_ops::set_fault(cat("short@", n));
      EXPECT_TRUE(run(out.path()).complete) << n;
      file_ops::set_fault("");
      check_and_finish(out.path(), cat("short write at operation ", n));
    }
  }
  // Dies at moments drawn from the child's whole life.
  void kill_at_random_moments(int count, uint64_t seed) const {
    using Clock = std::chrono::steady_clock;
    double life = 0.0;
    {
      const TempDir out;
      const auto start = Clock::now();
      EXPECT_EQ(wait_for(start_child(out.path(), "")), 0);
      life = std::chrono::duration<double>(Clock::now() - start).count();
    }
    Random random(seed);
    int killed = 0;
    // A machine with less other work than at the first measurement lives faster, so some moments
    // come too late: others are drawn instead.
    for (int i = 0; i < count || (killed <= count / 3 && i < 8 * count); ++i) {
      const TempDir out;
      // Most moments in the second half of a life: the first is spent loading libraries.
      const double moment = life * (.4 + .6 * random.uniform());
      const pid_t child = start_child(out.path(), "");
      std::this_thread::sleep_for(std::chrono::duration<double>(moment));
      ::kill(child, SIGKILL);
      if (WIFSIGNALED(wait_for(child))) {
        ++killed;
      } else {
        life = moment;
      }
      check_and_finish(out.path(), cat("killed after ", moment, " s"));
    }
    EXPECT_GT(killed, count / 3);
  }

 private:
  TempDir models_;
  std::vector<std::string> reference_;
  int64_t operations_ = 0;
};

}  // namespace kvlingua::testing

// The work of the child process.
TEST(GenerateCrash, Child) {
  const char* out = std::getenv("KVLINGUA_CRASH_OUT");
  if (out == nullptr) GTEST_SKIP() << "only as a child of the other tests";
  kvlingua::set_log_level(kvlingua::LogLevel::kOff);
  kvlingua::testing::CrashLab::run_in(std::getenv("KVLINGUA_CRASH_MODELS"), out);
}
