// All or nothing: a child process dies at its n-th file operation, n = 1, 2, 3 ... until it gets
// through, and the parent looks at what is left. The same with a disk that is full or fails at the
// n-th operation, once or from then on, and with short writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>

#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/file_ops.h"
#include "kvlingua/io/json_lines.h"
#include "kvlingua/io/manifest.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

// Runs `work` in a child under a fault. True: it was killed; false: it came to its end.
bool dies(const std::string& fault, const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      file_ops::set_fault(fault);
      work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) {
    EXPECT_EQ(WTERMSIG(status), SIGKILL);
    return true;
  }
  EXPECT_EQ(WEXITSTATUS(status), 0);
  return false;
}

size_t leftovers(const fs::path& folder) {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(folder))
    count += entry.path().filename().string().starts_with(".");
  return count;
}

struct Scenario {
  std::function<void(const TempDir&)> prepare;  // the state before
  std::function<void(const TempDir&)> work;     // from the state before to the state after
  std::function<int(const TempDir&)> state;     // 0 before, 1 after, else something in between
  int least_operations;
  bool once = false;  // the work adds to what is there, so it is not done again
};

void survives_death_everywhere(const Scenario& scenario) {
  int n = 1;
  for (bool killed = true; killed; ++n) {
    ASSERT_LT(n, 200);
    const TempDir dir;
    scenario.prepare(dir);
    killed = dies("kill@" + std::to_string(n), [&] { scenario.work(dir); });
    const int state = scenario.state(dir);
    EXPECT_TRUE(state == 0 || state == 1) << "killed at operation " << n;
    if (!killed) {
      EXPECT_EQ(state, 1);
    }
    scenario.work(dir);  // the next run gets there
    EXPECT_EQ(scenario.state(dir), 1) << "after a death at operation " << n;
    EXPECT_EQ(leftovers(dir.path()), 0u) << "after a death at operation " << n;
  }
  EXPECT_GT(n - 1, scenario.least_operations);
}

void survives_a_bad_disk(const Scenario& scenario, const std::string& fault) {
  int64_t operations = 0;
  {
    const TempDir dir(memory_folder());
    scenario.prepare(dir);
    file_ops::set_fault("");
    scenario.work(dir);
    operations = file_ops::count();
    EXPECT_GE(operations, scenario.least_operations);
  }
  for (int64_t n = 1; n <= operations; ++n) {
    ASSERT_LT(n, 200);
    const TempDir dir(memory_folder());
    scenario.prepare(dir);
    file_ops::set_fault(fault + "@" + std::to_string(n));
    bool failed = false;
    try {
      scenario.work(dir);
    } catch (const Error& error) {
      failed = true;
      EXPECT_EQ(error.code(), fault.starts_with("eio") ? ExitCode::kFailed : ExitCode::kDiskFull)
          << error.what();
    }
    file_ops::set_fault("");
    const int state = scenario.state(dir);
    EXPECT_TRUE(state == 1 || (failed && state == 0)) << fault << " at operation " << n;
    if (scenario.once) continue;
    scenario.work(dir);  // the next run gets there
    EXPECT_EQ(scenario.state(dir), 1) << fault << " at operation " << n;
  }
}

void survives_bad_disks(const Scenario& scenario) {
  for (const char* fault : {"enospc", "enospc-once", "eio", "eio-once"})
    survives_a_bad_disk(scenario, fault);
}

void survives_short_writes(const Scenario& scenario) {
  for (int n = 1; n < 12; ++n) {
    const TempDir dir;
    scenario.prepare(dir);
    file_ops::set_fault("short@" + std::to_string(n));
    scenario.work(dir);
    file_ops::set_fault("");
    EXPECT_EQ(scenario.state(dir), 1) << n;
  }
}

void survives_everything(const Scenario& scenario) {
  survives_death_everywhere(scenario);
  survives_bad_disks(scenario);
  survives_short_writes(scenario);
}

int which(const std::string& content, const std::string& before, const std::string& after) {
  return content == before ? 0 : content == after ? 1 : 2;
}

TEST(Crash, AtomicFileReplacesAnother) {
  survives_everything(
      {.prepare = [](const TempDir& dir) { dir.write("f", "old"); },
       .work = [](const TempDir& dir) { write_file_atomic(dir / "f", "the new content"); },
       .state =
           [](const TempDir& dir) { return which(bytes_of(dir / "f"), "old", "the new content"); },
       .least_operations = 4});
}

TEST(Crash, AtomicFileInBlocks) {
  const auto work = [](const TempDir& dir) {
    AtomicFile file(dir / "f", 12);
    file.write("abcd");
    file.write_at(8, "ijkl", 4);
    file.write("efgh");
    file.commit();
  };
  survives_everything({.prepare = [](const TempDir&) {},
                       .work = work,
                       .state =
                           [](const TempDir& dir) {
                             return fs::exists(dir / "f")
                                        ? which(bytes_of(dir / "f"), "", "abcdefghijkl")
                                        : 0;
                           },
                       .least_operations = 6});
}

TEST(Crash, ManifestIsOldOrNew) {
  const std::string hash(64, 'a');
  const auto manifest = [hash](int files) {
    Manifest m;
    for (int i = 0; i < files; ++i)
      m.set({.path = "f" + std::to_string(i), .bytes = 1, .sha256 = hash});
    return m;
  };
  survives_everything(
      {.prepare = [=](const TempDir& dir) { manifest(1).save(dir / "manifest.json"); },
       .work = [=](const TempDir& dir) { manifest(2).save(dir / "manifest.json"); },
       .state =
           [](const TempDir& dir) {
             return static_cast<int>(Manifest::load(dir / "manifest.json").entries().size()) - 1;
           },
       .least_operations = 4});
}

void fill(const fs::path& folder, const std::string& content) {
  fs::create_directories(folder / "sub");
  for (const char* name : {"a", "sub/b"}) {
    std::ofstream(folder / name) << content;
  }
}
int folder_state(const fs::path& folder) {
  if (!fs::exists(folder)) return 0;
  const int a = which(bytes_of(folder / "a"), "old", "new"),
            b = which(bytes_of(folder / "sub" / "b"), "old", "new");
  return a == b ? a : 2;
}

TEST(Crash, PublishedFolder) {
  const auto work = [](const TempDir& dir) {
    if (folder_state(dir / "final") == 1) return;
    fs::remove_all(dir / "work");
    fill(dir / "work", "new");
    publish_directory(dir / "work", dir / "final");
  };
  const auto state = [](const TempDir& dir) { return folder_state(dir / "final"); };
  survives_everything(
      {.prepare = [](const TempDir&) {}, .work = work, .state = state, .least_operations = 5});
  survives_everything({.prepare = [](const TempDir& dir) { fill(dir / "final", "old"); },
                       .work = work,
                       .state = state,
                       .least_operations = 6});
}

TEST(Crash, JsonLinesLoseAtMostTheLastLine) {
  for (int n = 1;; ++n) {
    ASSERT_LT(n, 50);
    const TempDir dir;
    const fs::path path = dir / "log.jsonl";
    const bool killed = dies("kill@" + std::to_string(n), [&] {
      JsonLinesWriter log(path);
      for (int i = 0; i < 5; ++i) log.write(nlohmann::json{{"step", i}});
    });
    const int whole = std::max(0, n - 2);  // operation 1 opens, operation k + 2 writes line k
    std::vector<int> steps;
    if (fs::exists(path)) {
      JsonLinesWriter(path).write(nlohmann::json{{"step", 99}});
      for (const auto& line : read_json_lines(path)) steps.push_back(line.at("step"));
      EXPECT_EQ(steps.back(), 99);
      steps.pop_back();
    }
    std::vector<int> expected;
    for (int i = 0; i < std::min(whole, 5); ++i) expected.push_back(i);
    EXPECT_EQ(steps, expected) << "killed at operation " << n;
    if (!killed) break;
  }
}

TEST(Crash, JsonLinesOnAFullDiskStayWhole) {
  const TempDir dir;
  JsonLinesWriter log(dir / "log.jsonl");
  log.write(nlohmann::json{{"step", 0}});
  file_ops::set_fault("short@1");
  log.write(nlohmann::json{{"step", 1}});
  file_ops::set_fault("enospc@1");
  EXPECT_THROW(log.write(nlohmann::json{{"step", 2}}), Error);
  file_ops::set_fault("");
  log.write(nlohmann::json{{"step", 3}});
  EXPECT_EQ(bytes_of(dir / "log.jsonl"), "{\"step\":0}\n{\"step\":1}\n{\"step\":3}\n");
}

TEST(Crash, DurableLine) {
  survives_bad_disks({.prepare = [](const TempDir&) {},
                      .work = [](const TempDir& dir) { append_line_durable(dir / "f", "line"); },
                      .state =
                          [](const TempDir& dir) {
                            return fs::exists(dir / "f") ? which(bytes_of(dir / "f"), "", "line\n")
                                                         : 0;
                          },
                      .least_operations = 3,
                      .once = true});
}

TEST(Fault, UnknownIsRefused) {
  for (const char* spec :
       {"kill", "kill@", "kill@0", "kill@x", "explode@1", "@1", "kill-once@1", "eio-twice@1"})
    EXPECT_THROW(file_ops::set_fault(spec), Error) << spec;
  file_ops::set_fault("");
}

}  // namespace
}  // namespace kvlingua
