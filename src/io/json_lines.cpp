#include "kvlingua/io/json_lines.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/io/file_ops.h"
#include "kvlingua/io/json.h"

namespace kvlingua {
namespace {

// The size of the file up to and with its last '\n'.
uint64_t whole_lines(int fd, uint64_t size) {
  std::array<char, 4096> block{};
  while (size > 0) {
    const size_t n = std::min<uint64_t>(size, block.size());
    const ssize_t got = ::pread(fd, block.data(), n, static_cast<off_t>(size - n));
    if (got != static_cast<ssize_t>(n)) return size;  // cannot tell: keep it
    for (size_t i = n; i > 0; --i) {
      if (block[i - 1] == '\n') return size - n + i;
    }
    size -= n;
  }
  return 0;
}

}  // namespace

JsonLinesWriter::JsonLinesWriter(std::filesystem::path path) : path_(std::move(path)) {
  file_ops::must_be_regular(path_);
  fd_ = file_ops::open(path_, O_RDWR | O_CREAT | O_APPEND);
  if (fd_ < 0) file_ops::fail(path_, "cannot be written", errno);
  struct stat status {};
  if (::fstat(fd_, &status) == 0) size_ = static_cast<uint64_t>(status.st_size);
  const uint64_t whole = whole_lines(fd_, size_);
  if (whole == size_) return;
  try {
    truncate(whole);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

JsonLinesWriter::JsonLinesWriter(JsonLinesWriter&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

JsonLinesWriter::~JsonLinesWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void JsonLinesWriter::write(const nlohmann::json& value) {
  write_line(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}
void JsonLinesWriter::write(const nlohmann::ordered_json& value) {
  write_line(value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void JsonLinesWriter::write_line(std::string line) {
  line += '\n';
  if (!file_ops::write_all(fd_, line.data(), line.size())) {
    const int error = errno;
    file_ops::truncate(fd_, static_cast<off_t>(size_));  // no half line for others to read
    file_ops::fail(path_, "cannot be written", error, line.size());
  }
  size_ += line.size();
}

void JsonLinesWriter::truncate(uint64_t size) {
  if (size > size_) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = path_.string(),
                 .what = "shorter than it was when the checkpoint was written",
                 .got = cat(size_, " bytes"),
                 .expected = cat("at least ", size)});
  }
  if (file_ops::truncate(fd_, static_cast<off_t>(size)) != 0)
    file_ops::fail(path_, "cannot be shortened", errno);
  size_ = size;
}

void JsonLinesWriter::sync() {
  if (file_ops::sync(fd_) != 0) file_ops::fail(path_, "cannot be flushed to the disk", errno);
}

bool read_json_lines(const std::filesystem::path& path,
                     const std::function<void(const nlohmann::json&, size_t)>& each) {
  errno = 0;
  std::error_code ignored;
  const bool regular = std::filesystem::is_regular_file(path, ignored);
  std::ifstream in;
  if (regular || !std::filesystem::exists(path, ignored)) in.open(path, std::ios::binary);
  if (!in.is_open()) {
    throw Error({.code = ExitCode::kInput,
                 .where = path.string(),
                 .what = "cannot be read",
                 .got = std::strerror(errno != 0 ? errno : EISDIR)});
  }
  std::string line;
  for (size_t number = 1; std::getline(in, line); ++number) {
    if (in.eof()) return false;  // no '\n' behind it
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    each(parse_json_line(line, path.string(), number), number);
  }
  return true;
}

std::vector<nlohmann::json> read_json_lines(const std::filesystem::path& path) {
  std::vector<nlohmann::json> values;
  read_json_lines(path, [&](const nlohmann::json& value, size_t) { values.push_back(value); });
  return values;
}

}  // namespace kvlingua
