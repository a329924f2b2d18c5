#include "file_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kvlingua/base/error.h"

namespace kvlingua {

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
    address_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
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
