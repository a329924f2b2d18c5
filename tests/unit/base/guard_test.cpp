#include "kvlingua/base/guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <new>
#include <string>
#include <system_error>
#include <thread>

#include "kvlingua/base/error.h"
#include "kvlingua/base/stop_signal.h"

namespace kvlingua {
namespace {

std::pair<int, std::string> outcome(const std::function<int()>& body) {
  testing::internal::CaptureStderr();
  const int code = guarded(body);
  return {code, testing::internal::GetCapturedStderr()};
}

TEST(Guard, EveryExceptionIsOneLineAndACode) {
  EXPECT_EQ(outcome([] { return 3; }), (std::pair<int, std::string>(3, "")));
  EXPECT_EQ(
      outcome([]() -> int {
        throw Error({.code = ExitCode::kInput, .where = "a.json", .what = "bad", .got = "x\ny"});
      }),
      (std::pair<int, std::string>(4, "kvlingua: a.json: bad: got x y\n")));
  const auto memory = outcome([]() -> int { throw std::bad_alloc(); });
  EXPECT_EQ(memory.first, 5);
  EXPECT_THAT(memory.second, testing::StartsWith("kvlingua: out of memory; "));
  EXPECT_EQ(outcome([]() -> int {
              throw std::system_error(std::make_error_code(std::errc::no_space_on_device), "f");
            }).first,
            7);
  EXPECT_EQ(outcome([]() -> int { throw std::runtime_error("two\nlines"); }),
            (std::pair<int, std::string>(1, "kvlingua: internal error: two\\x0alines\n")));
  EXPECT_EQ(outcome([]() -> int { throw 5; }).first, 1);
}

TEST(Guard, AnExceptionLeavingAThreadEndsWithALine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        install_terminate_line();
        std::thread([] {
          throw Error({.code = ExitCode::kCorrupt, .what = "shard broken"});
        }).join();
      },
      testing::ExitedWithCode(6), "kvlingua: shard broken");
}

TEST(StopSignal, FirstSignalAsksSecondCtrlCEnds) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto child = [](int first, bool second) {
    ::signal(SIGINT, SIG_DFL);  // shells' background jobs ignore it
    watch_stop_signals();
    if (stop_requested()) _exit(99);
    kill(getpid(), first);
    alarm(30);
    while (!stop_requested()) usleep(1000);
    if (second) {
      kill(getpid(), SIGINT);
      pause();
    }
    _exit(static_cast<int>(stop_exit_code()));
  };
  EXPECT_EXIT(child(SIGTERM, false), testing::ExitedWithCode(75),
              "stopping after the current step");
  EXPECT_EXIT(child(SIGINT, false), testing::ExitedWithCode(130),
              "stopping after the current step");
  EXPECT_EXIT(child(SIGTERM, true), testing::ExitedWithCode(130), "");
}

// A mask of /proc/self/task/<thread>/status, for example "SigBlk".
uint64_t signal_mask(const std::string& name) {
  std::ifstream status("/proc/thread-self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1), nullptr, 16);
  }
  return 0;
}

// A handler's frame on the stack of a computing thread would overwrite what libtorch keeps there.
TEST(StopSignal, NoHandlerRunsOnAThreadThatComputes) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto child = [] {
    ::signal(SIGINT, SIG_DFL);  // shells' background jobs ignore it
    watch_stop_signals();
    const uint64_t both = (1ULL << (SIGTERM - 1)) | (1ULL << (SIGINT - 1));
    const auto safe = [&] {
      return (signal_mask("SigBlk") & both) == both && (signal_mask("SigCgt") & both) == 0;
    };
    bool worker = false;
    std::thread([&] { worker = safe(); }).join();
    _exit(safe() && worker ? 0 : 1);
  };
  EXPECT_EXIT(child(), testing::ExitedWithCode(0), "");
}

TEST(StopSignal, ErrorCarriesTheCode) {
  request_stop(SIGTERM);
  const Error error = stopped_error("saved in step-000010");
  EXPECT_EQ(error.code(), ExitCode::kTerminated);
  EXPECT_STREQ(error.what(), "stopped by SIGTERM; saved in step-000010");
  request_stop(0);
  EXPECT_FALSE(stop_requested());
}

}  // namespace
}  // namespace kvlingua
