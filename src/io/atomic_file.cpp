#include "kvlingua/io/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/io/file_ops.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

std::string temporary_prefix(const fs::path& path) {
  return "." + path.filename().string() + ".tmp-";
}

// Temporary files of dead writers: a living one holds a lock on its file.
void remove_leftovers(const fs::path& path) {
  const std::string prefix = temporary_prefix(path);
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_of(path), ignored)) {
    if (entry.path().filename().string().starts_with(prefix)) found.push_back(entry.path());
  }
  for (const fs::path& leftover : found) {
    const int fd = ::open(leftover.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) file_ops::remove(leftover);
    ::close(fd);
  }
}

// A tree of files, flushed file by file; folders after what they hold.
void sync_tree(const fs::path& folder) {
  std::vector<fs::path> folders{folder};
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_symlink()) continue;
    if (entry.is_directory()) {
      folders.push_back(entry.path());
    } else if (entry.is_regular_file()) {
      const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
      if (fd < 0) file_ops::fail(entry.path(), "cannot be opened", errno);
      const int result = file_ops::sync(fd);
      const int error = errno;
      ::close(fd);
      if (result != 0)
        file_ops::fail(entry.path(), "cannot be flushed to the disk", error, entry.file_size());
    }
  }
  for (auto it = folders.rbegin(); it != folders.rend(); ++it) {
    if (file_ops::sync_directory(*it) != 0)
      file_ops::fail(*it, "cannot be flushed to the disk", errno);
  }
}

void remove_tree(const fs::path& folder) {
  if (file_ops::step() != 0) return;
  std::error_code ignored;
  fs::remove_all(folder, ignored);
}

}  // namespace

AtomicFile::AtomicFile(fs::path path, uint64_t bytes_needed)
    : path_(std::move(path)), bytes_needed_(bytes_needed) {
  static std::atomic<unsigned> counter = 0;
  remove_leftovers(path_);
  temporary_ = folder_of(path_) / (temporary_prefix(path_) + std::to_string(::getpid()) + "-" +
                                   std::to_string(counter++));
  fd_ = file_ops::open(temporary_, O_RDWR | O_CREAT | O_EXCL);
  if (fd_ < 0) file_ops::fail(path_, "cannot be written", errno, bytes_needed_);
  ::flock(fd_,
          LOCK_EX | LOCK_NB);  // says "alive"; a file system without locks only loses the tidying
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      bytes_needed_(other.bytes_needed_),
      end_(other.end_),
      fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  file_ops::remove(temporary_);
  ::close(fd_);
}

void AtomicFile::write(const void* data, size_t size) {
  write_at(end_, data, size);
  end_ += size;
}

void AtomicFile::write_at(uint64_t offset, const void* data, size_t size) {
  if (!file_ops::pwrite_all(fd_, data, size, static_cast<off_t>(offset))) {
    file_ops::fail(path_, "cannot be written", errno,
                   std::max<uint64_t>(bytes_needed_, offset + size));
  }
}

void AtomicFile::commit() {
  if (file_ops::sync(fd_) != 0)
    file_ops::fail(path_, "cannot be flushed to the disk", errno, std::max(bytes_needed_, end_));
  if (file_ops::rename(temporary_, path_) != 0)
    file_ops::fail(path_, "cannot be renamed into place", errno);
  ::close(std::exchange(fd_, -1));
  if (file_ops::sync_directory(folder_of(path_)) != 0)
    file_ops::fail(folder_of(path_), "cannot be flushed to the disk", errno);
}

void write_file_atomic(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path, bytes.size());
  file.write(bytes);
  file.commit();
}

void append_line_durable(const fs::path& path, std::string_view line) {
  std::string text = std::string(line) + "\n";
  std::error_code ignored;
  const bool is_new = !fs::exists(path, ignored);
  file_ops::must_be_regular(path);
  const int fd = file_ops::open(path, O_RDWR | O_CREAT | O_APPEND);
  if (fd < 0) file_ops::fail(path, "cannot be written", errno, text.size());
  // A line that was torn before its end stays one; this one would be lost with it.
  char last = '\n';
  const off_t size = ::lseek(fd, 0, SEEK_END);
  if (size > 0 && ::pread(fd, &last, 1, size - 1) == 1 && last != '\n') text.insert(0, 1, '\n');
  const bool written = file_ops::write_all(fd, text.data(), text.size()) && file_ops::sync(fd) == 0;
  const int error = errno;
  ::close(fd);
  if (!written) file_ops::fail(path, "cannot be written", error, text.size());
  if (is_new && file_ops::sync_directory(folder_of(path)) != 0)
    file_ops::fail(path, "cannot be flushed to the disk", errno);
}

void make_directories(const fs::path& folder) {
  std::error_code ignored;
  if (folder.empty() || fs::is_directory(folder, ignored)) return;
  const fs::path parent = folder_of(folder.has_filename() ? folder : folder.parent_path());
  if (parent != folder) make_directories(parent);
  if (file_ops::make_directory(folder) != 0 && errno != EEXIST)
    file_ops::fail(folder, "cannot be created", errno);
  if (!fs::is_directory(folder, ignored)) file_ops::fail(folder, "cannot be created", ENOTDIR);
  if (file_ops::sync_directory(parent) != 0)
    file_ops::fail(parent, "cannot be flushed to the disk", errno);
}

fs::path temporary_directory(const fs::path& final_name) {
  static std::atomic<unsigned> counter = 0;
  const fs::path parent = folder_of(final_name);
  const std::string prefix = "." + final_name.filename().string() + ".partial-";
  make_directories(parent);
  std::vector<fs::path> leftovers;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(parent, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    const long owner = std::strtol(name.c_str() + prefix.size(), nullptr, 10);
    if (owner > 0 && ::kill(static_cast<pid_t>(owner), 0) != 0 && errno == ESRCH)
      leftovers.push_back(entry.path());
  }
  for (const fs::path& leftover : leftovers) remove_tree(leftover);
  const fs::path made =
      parent / (prefix + std::to_string(::getpid()) + "-" + std::to_string(counter++));
  make_directories(made);
  return made;
}

void publish_directory(const fs::path& temporary, const fs::path& final_name) {
  std::error_code ignored;
  if (!fs::is_directory(temporary, ignored))
    file_ops::fail(temporary, "is not a folder to publish", ENOTDIR);
  sync_tree(temporary);
  const fs::path parent = folder_of(final_name);
  const auto sync_parent = [&] {
    if (file_ops::sync_directory(parent) != 0)
      file_ops::fail(parent, "cannot be flushed to the disk", errno);
  };
  if (!fs::exists(final_name, ignored)) {
    if (file_ops::rename(temporary, final_name) != 0)
      file_ops::fail(final_name, "cannot be renamed into place", errno);
    sync_parent();
    return;
  }
  if (file_ops::exchange(temporary, final_name) == 0) {
    sync_parent();
    remove_tree(temporary);  // it holds the old content now
    return;
  }
  if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP && errno != EPERM)
    file_ops::fail(final_name, "cannot be renamed into place", errno);
  // No atomic exchange on this file system: for a moment the old folder is under another name.
  const fs::path aside =
      parent / ("." + final_name.filename().string() + ".old-" + std::to_string(::getpid()));
  if (file_ops::rename(final_name, aside) != 0)
    file_ops::fail(final_name, "cannot be moved aside", errno);
  if (file_ops::rename(temporary, final_name) != 0) {
    const int error = errno;
    file_ops::rename(aside, final_name);
    file_ops::fail(final_name, "cannot be renamed into place", error);
  }
  sync_parent();
  remove_tree(aside);
}

}  // namespace kvlingua
