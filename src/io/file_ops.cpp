#include "kvlingua/io/file_ops.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kvlingua/base/error.h"
#include "kvlingua/io/system.h"

namespace kvlingua::file_ops {
namespace {

enum class Fault { kNone, kKill, kError, kShort };

struct State {
  std::atomic<Fault> fault = Fault::kNone;
  std::atomic<int> failure = 0;    // of kError: what errno says
  std::atomic<bool> once = false;  // of kError: that operation alone, not those after it too
  std::atomic<int64_t> at = 0;
  std::atomic<int64_t> count = 0;

  State() {
    if (const char* spec = std::getenv("KVLINGUA_FAULT")) parse(spec);
  }

  void parse(std::string_view spec) {
    fault = Fault::kNone;
    if (spec.empty()) return;
    const size_t split = spec.find('@');
    std::string_view name = spec.substr(0, split);
    const std::string_view number = split == std::string_view::npos ? "" : spec.substr(split + 1);
    int64_t n = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), n);
    constexpr std::string_view kOnce = "-once";
    const bool failing = name.starts_with("enospc") || name.starts_with("eio");
    once = failing && name.ends_with(kOnce);
    if (once) name.remove_suffix(kOnce.size());
    const Fault kind = name == "kill"                      ? Fault::kKill
                       : name == "enospc" || name == "eio" ? Fault::kError
                       : name == "short"                   ? Fault::kShort
                                                           : Fault::kNone;
    if (kind == Fault::kNone || error != std::errc() || end != number.data() + number.size() ||
        n < 1) {
      throw Error({.code = ExitCode::kUsage,
                   .where = "KVLINGUA_FAULT",
                   .what = "not a fault",
                   .got = printable(spec),
                   .expected = "kill@n, enospc@n, eio@n, enospc-once@n, eio-once@n or short@n"});
    }
    failure = name == "eio" ? EIO : ENOSPC;
    at = n;
    fault = kind;
  }
};

State& state() {
  static State instance;
  return instance;
}

// What the present operation must suffer.
Fault next() {
  State& s = state();
  const int64_t n = ++s.count;
  const Fault fault = s.fault;
  if (fault == Fault::kNone || n < s.at) return Fault::kNone;
  if (fault == Fault::kError && !s.once) return fault;
  return n == s.at ? fault : Fault::kNone;
}

[[noreturn]] void die() {
  ::kill(::getpid(), SIGKILL);
  for (;;) ::pause();
}

// Some network and FUSE file systems, and devices, have no fsync: what was written is as safe there
// as it gets.
bool no_sync_here(int error) {
  return error == EINVAL || error == ENOTSUP || error == ENOSYS || error == EROFS;
}

enum class Needs { kSpace, kNoSpace };

// False: the operation fails, errno says how. A full disk stops only what needs space.
bool may_go_on(Needs needs) {
  const Fault fault = next();
  if (fault == Fault::kKill) die();
  if (fault != Fault::kError) return true;
  const int error = state().failure;
  if (error == ENOSPC && needs == Needs::kNoSpace) return true;
  errno = error;
  return false;
}

template <class Call>
auto repeat(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

template <class Write>
ssize_t write_with_faults(size_t size, Write write) {
  const Fault fault = next();
  if (fault == Fault::kError) {
    errno = state().failure;
    return -1;
  }
  if (fault == Fault::kKill) {
    repeat([&] { return write(size / 2); });
    die();
  }
  const size_t wanted = fault == Fault::kShort && size > 1 ? size / 2 : size;
  return repeat([&] { return write(wanted); });
}

template <class Write>
bool write_until_done(size_t size, Write write) {
  size_t done = 0;
  while (done < size) {
    const ssize_t n = write(done, size - done);
    if (n < 0) return false;
    if (n == 0) {
      errno = ENOSPC;
      return false;
    }
    done += static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

int open(const std::filesystem::path& path, int flags, mode_t mode) {
  if ((flags & O_CREAT) != 0 && !may_go_on(Needs::kSpace)) return -1;
  return repeat([&] { return ::open(path.c_str(), flags | O_CLOEXEC, mode); });
}

ssize_t write(int fd, const void* data, size_t size) {
  return write_with_faults(size, [&](size_t n) { return ::write(fd, data, n); });
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  return write_with_faults(size, [&](size_t n) { return ::pwrite(fd, data, n, offset); });
}

int sync(int fd) {
  if (!may_go_on(Needs::kSpace)) return -1;  // delayed allocation: a full disk may show here first
  const int result = repeat([&] { return ::fsync(fd); });
  return result != 0 && no_sync_here(errno) ? 0 : result;
}

int truncate(int fd, off_t size) {
  if (!may_go_on(Needs::kNoSpace)) return -1;
  return repeat([&] { return ::ftruncate(fd, size); });
}

int rename(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (!may_go_on(Needs::kSpace)) return -1;
  return ::rename(from.c_str(), to.c_str());
}

int exchange(const std::filesystem::path& a, const std::filesystem::path& b) {
  if (!may_go_on(Needs::kSpace)) return -1;
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
}

int remove(const std::filesystem::path& path) {
  if (!may_go_on(Needs::kNoSpace)) return -1;
  return ::remove(path.c_str());
}

int make_directory(const std::filesystem::path& path) {
  if (!may_go_on(Needs::kSpace)) return -1;
  return ::mkdir(path.c_str(), 0777);
}

int sync_directory(const std::filesystem::path& folder) {
  if (!may_go_on(Needs::kNoSpace)) return -1;
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -1;
  const int result = repeat([&] { return ::fsync(fd); });
  const int error = errno;
  ::close(fd);
  if (result == 0 || no_sync_here(error)) return 0;
  errno = error;
  return -1;
}

bool write_all(int fd, const void* data, size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  return write_until_done(size,
                          [&](size_t done, size_t left) { return write(fd, bytes + done, left); });
}

bool pwrite_all(int fd, const void* data, size_t size, off_t offset) {
  const auto* bytes = static_cast<const char*>(data);
  return write_until_done(size, [&](size_t done, size_t left) {
    return pwrite(fd, bytes + done, left, offset + static_cast<off_t>(done));
  });
}

int step() { return may_go_on(Needs::kSpace) ? 0 : errno; }

void must_be_regular(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode) || S_ISCHR(status.st_mode))
    return;
  throw Error({.code = ExitCode::kInput,
               .where = path.string(),
               .what = "cannot be written",
               .got = S_ISDIR(status.st_mode) ? "a folder" : "a FIFO or a socket",
               .expected = "a file of this program, or none",
               .remedy = "move it away"});
}

int64_t count() { return state().count; }

void set_fault(std::string_view spec) {
  state().parse(spec);
  state().count = 0;
}

void fail(const std::filesystem::path& path, std::string what, int error, uint64_t bytes_needed) {
  ErrorParts parts{.code = ExitCode::kFailed,
                   .where = path.string(),
                   .what = std::move(what),
                   .got = std::strerror(error)};
  if (error == EFBIG) {
    parts.code = ExitCode::kDiskFull;
    parts.remedy =
        "raise the limit on the size of a file (ulimit -f), or use --out on another disk";
  } else if (error == ENOSPC || error == EDQUOT) {
    parts.code = ExitCode::kDiskFull;
    const uint64_t free = free_disk_bytes(path.parent_path());
    if (bytes_needed > 0) parts.got += cat(" (", bytes_needed, " bytes needed, ", free, " free)");
    parts.remedy = error == EDQUOT ? "raise the quota, or use --out on another disk"
                                   : "free space, or use --out on another disk";
  } else if (error == EACCES || error == EPERM || error == EROFS || error == ENOENT ||
             error == ENOTDIR || error == EISDIR || error == ELOOP || error == ENAMETOOLONG) {
    parts.code = ExitCode::kInput;
    parts.remedy = "choose a folder that exists and can be written, for example with --out";
  } else if (error == EIO) {
    parts.remedy =
        "the disk or the connection to it fails: look at the system's log, then run again";
  }
  throw Error(std::move(parts));
}

}  // namespace kvlingua::file_ops
