// FileLock: an advisory lock (flock) that the kernel takes back when its process ends, however it
// ends. It says who works in a folder, and whether that process is still there.
#pragma once

#include <filesystem>
#include <utility>

namespace kvlingua {

class FileLock {
 public:
  FileLock() = default;
  // Tries once; creates the file where it is missing. held() is false when another process has the
  // lock; a file system without locks counts as held. Throws Error when the file cannot be opened.
  explicit FileLock(const std::filesystem::path& path);
  ~FileLock();
  FileLock(FileLock&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), held_(std::exchange(other.held_, false)) {}
  FileLock& operator=(FileLock&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(held_, other.held_);
    return *this;
  }

  bool held() const { return held_; }
  // Whether some process holds the lock of this file now.
  static bool taken(const std::filesystem::path& path);

 private:
  int fd_ = -1;
  bool held_ = false;
};

}  // namespace kvlingua
