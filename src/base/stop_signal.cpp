#include "kvlingua/base/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

namespace kvlingua {
namespace {

std::atomic<int> stop{0};
static_assert(std::atomic<int>::is_always_lock_free, "used in a signal handler");

// Async-signal-safe only: an atomic, write and _exit.
void on_signal(int signal) {
  const int saved_errno = errno;
  int none = 0;
  if (!stop.compare_exchange_strong(none, signal)) {
    if (signal == SIGINT) _exit(static_cast<int>(ExitCode::kInterrupted));
  } else {
    static constexpr char kWords[] =
        "\nkvlingua: stopping after the current step; Ctrl-C again stops at once\n";
    if (write(STDERR_FILENO, kWords, sizeof kWords - 1) < 0) errno = saved_errno;
  }
  errno = saved_errno;
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action;
  std::memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGTERM, SIGINT}) {
    // nohup and shells' background jobs ignore SIGINT on purpose.
    struct sigaction before;
    if (sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_IGN) continue;
    sigaction(signal, &action, nullptr);
  }
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
                .what = interrupted ? "stopped by Ctrl-C" : "stopped by SIGTERM",
                .remedy = saved});
}

void request_stop(int signal) noexcept { stop.store(signal); }

}  // namespace kvlingua
