#include "kvlingua/base/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <thread>

namespace kvlingua {
namespace {

std::atomic<int> stop{0};

void on_signal(int signal) {
  int none = 0;
  if (!stop.compare_exchange_strong(none, signal)) {
    if (signal == SIGINT) _exit(static_cast<int>(ExitCode::kInterrupted));
    return;
  }
  std::fputs("\nkvlingua: stopping after the current step; Ctrl-C again stops at once\n", stderr);
  std::fflush(stderr);
}

}  // namespace

void watch_stop_signals() {
  static std::atomic<bool> watching{false};
  if (watching.exchange(true)) return;
  // A reader of the log that goes away (| head) must not take the run with it: the write fails.
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    // nohup ignores SIGHUP on purpose, shells' background jobs SIGINT.
    struct sigaction before;
    if (sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_IGN) continue;
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals] {
    while (true) {
      int signal = 0;
      if (sigwait(&signals, &signal) == 0) on_signal(signal);
    }
  }).detach();
}

bool stop_requested() noexcept { return stop.load(std::memory_order_relaxed) != 0; }

ExitCode stop_exit_code() noexcept {
  switch (stop.load()) {
    case 0:
      return ExitCode::kOk;
    case SIGINT:
      return ExitCode::kInterrupted;
    default:
      return ExitCode::kTerminated;
  }
}

Error stopped_error(const std::string& saved) {
  const bool interrupted = stop_exit_code() == ExitCode::kInterrupted;
  return Error({.code = interrupted ? ExitCode::kInterrupted : ExitCode::kTerminated,
                .what = interrupted             ? "stopped by Ctrl-C"
                        : stop.load() == SIGHUP ? "stopped by SIGHUP (its terminal was closed)"
                                                : "stopped by SIGTERM",
                .remedy = saved});
}

void request_stop(int signal) noexcept { stop.store(signal); }

}  // namespace kvlingua
