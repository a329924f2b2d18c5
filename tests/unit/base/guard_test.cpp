#include "kvlingua/base/guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <new>
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
    install_stop_handlers();
    if (stop_requested()) _exit(99);
    raise(first);
    if (!stop_requested()) _exit(98);
    if (second) raise(SIGINT);
    _exit(static_cast<int>(stop_exit_code()));
  };
  EXPECT_EXIT(child(SIGTERM, false), testing::ExitedWithCode(75),
              "stopping after the current step");
  EXPECT_EXIT(child(SIGINT, false), testing::ExitedWithCode(130),
              "stopping after the current step");
  EXPECT_EXIT(child(SIGTERM, true), testing::ExitedWithCode(130), "");
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
