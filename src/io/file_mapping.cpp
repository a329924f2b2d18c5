#include "file_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

// The same bytes in a file in memory, for file systems that map none (some FUSE). A file and not
// plain memory, so that pages given back (kDontNeed) can be read again. -1: errno says why.
int copy_in_memory(int fd, size_t size) {
  const int copy = ::memfd_create("kvlingua", MFD_CLOEXEC);
  std::vector<char> block(1 << 20);
  for (size_t done = 0; copy >= 0 && done < size;) {
    const ssize_t n =
        ::pread(fd, block.data(), std::min(block.size(), size - done), static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = EIO;  // cut while it was read
    if (n <= 0 || ::write(copy, block.data(), static_cast<size_t>(n)) != n) {
      const int error = errno;
      ::close(copy);
      errno = error;
      return -1;
    }
    done += static_cast<size_t>(n);
  }
  return copy;
}

void* map_whole(int fd, size_t size) {
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (address != MAP_FAILED || errno != ENODEV) return address;
  const int copy = copy_in_memory(fd, size);
  if (copy < 0) return MAP_FAILED;
  address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, copy, 0);
  const int error = errno;
  ::close(copy);
  errno = error;
  return address;
}

}  // namespace

FileMapping::FileMapping(const std::filesystem::path& path) {
  const auto fail = [&](std::string what, int error) {
    throw Error({.code = ExitCode::kInput,
                 .where = path.string(),
                 .what = std::move(what),
                 .got = std::strerror(error)});
  };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail("cannot be opened", errno);
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    const int error = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    ::close(fd);
    fail("is not a regular file", error);
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {
    address_ = map_whole(fd, size_);
    if (address_ == MAP_FAILED) {
      const int error = errno;
      ::close(fd);
      fail("cannot be mapped", error);
    }
  }
  ::close(fd);
  registered_.emplace(address_, size_, path.string());
}

FileMapping::~FileMapping() {
  registered_.reset();
  if (size_ > 0) ::munmap(address_, size_);
}

void advise_kernel(FileAccess access, std::span<const std::byte> range) {
  if (range.empty()) return;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  auto begin = reinterpret_cast<uintptr_t>(range.data());
  auto end = begin + range.size();
  if (access == FileAccess::kDontNeed) {
    begin = (begin + page - 1) / page * page;  // pages shared with a neighbour stay
    end = end / page * page;
  } else {
    begin = begin / page * page;
  }
  if (begin >= end) return;
  const int advice = access == FileAccess::kSequential ? MADV_SEQUENTIAL
                     : access == FileAccess::kWillNeed ? MADV_WILLNEED
                                                       : MADV_DONTNEED;
  ::madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

}  // namespace kvlingua
