#include "kvlingua/base/guard.h"

#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"

namespace kvlingua {
namespace {

std::function<void(const Failure&)>& listener() {
  static std::function<void(const Failure&)> also;
  return also;
}

int say(const std::string& line, ExitCode code, const ErrorParts& parts = {}) {
  clear_progress_line();
  std::fprintf(stderr, "kvlingua: %s\n", line.c_str());
  try {
    if (listener()) listener()({.line = line, .parts = parts, .code = code});
  } catch (...) {  // a full disk or a closed pipe: the line and the code are out all the same
  }
  return static_cast<int>(code);
}

int current_exception_line() {
  try {
    throw;
  } catch (const Error& error) {
    return say(error.what(), error.code(), error.parts());
  } catch (const std::bad_alloc&) {
    return say(
        "out of memory; lower the batch sizes (data.batch_tokens, train.*.batch.size), or use a "
        "machine with more",
        ExitCode::kDevice);
  } catch (const std::system_error& error) {  // filesystem errors too
    const bool full = error.code() == std::errc::no_space_on_device;
    return say(printable(error.what(), 400) +
                   (full ? "; make room and run again, what is finished is kept" : ""),
               full ? ExitCode::kDiskFull : ExitCode::kFailed);
  } catch (const std::exception& error) {
    return say("internal error: " + printable(error.what(), 400), ExitCode::kFailed);
  } catch (...) {
    return say("internal error of an unknown kind", ExitCode::kFailed);
  }
}

}  // namespace

void tell_failures_to(std::function<void(const Failure&)> also) { listener() = std::move(also); }

int guarded(const std::function<int()>& body) {
  try {
    return body();
  } catch (...) {
    return current_exception_line();
  }
}

void install_terminate_line() {
  std::set_terminate([] {
    int code = static_cast<int>(ExitCode::kFailed);
    if (std::current_exception()) {
      code = current_exception_line();
    } else {
      say("internal error: terminated", ExitCode::kFailed);
    }
    _exit(code);
  });
}

}  // namespace kvlingua
