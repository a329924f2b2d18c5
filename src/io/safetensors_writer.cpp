#include "kvlingua/io/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

size_t bytes_of(const SafetensorsEntry& entry) {
  size_t bits = static_cast<size_t>(bit_width(entry.dtype));
  for (const int64_t n : entry.shape) bits *= static_cast<size_t>(n);
  return bits / 8;
}

std::string header_of(const std::vector<SafetensorsEntry>& entries, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t begin = 0;
  for (const SafetensorsEntry& entry : entries) {
    const size_t end = begin + bytes_of(entry);
    header[entry.name] = {{"dtype", to_string(entry.dtype)}, {"shape", entry.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // the tensors start aligned
  return text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<SafetensorsEntry> entries,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path), temporary_(path.string() + ".tmp." + std::to_string(getpid())), entries_(std::move(entries)) {
  std::set<std::string_view> names;
  for (const SafetensorsEntry& entry : entries_) {
    if (!names.insert(entry.name).second) {
      throw Error({.code = ExitCode::kFailed, .where = path_.string(), .what = "two tensors of one name", .got = entry.name});
    }
  }
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file_ < 0) fail("cannot be written");
  const std::string header = header_of(entries_, metadata);
  const uint64_t length = header.size();
  write_all(&length, sizeof length);
  write_all(header.data(), header.size());
}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ >= 0) {
    ::close(file_);
    ::unlink(temporary_.c_str());
  }
}

void SafetensorsWriter::write(std::span<const std::byte> data) {
  if (next_ >= entries_.size() || data.size() != bytes_of(entries_[next_])) {
    throw Error({.code = ExitCode::kFailed, .where = path_.string(),
                 .what = next_ < entries_.size() ? cat("tensor ", entries_[next_].name, ": wrong number of bytes") : "one tensor too many",
                 .got = cat(data.size()),
                 .expected = next_ < entries_.size() ? cat(bytes_of(entries_[next_])) : cat(entries_.size(), " tensors")});
  }
  write_all(data.data(), data.size());
  ++next_;
}

void SafetensorsWriter::finish() {
  if (next_ != entries_.size()) {
    throw Error({.code = ExitCode::kFailed, .where = path_.string(), .what = "not all tensors were written", .got = cat(next_),
                 .expected = cat(entries_.size())});
  }
  if (::fsync(file_) != 0) fail("cannot be written");
  ::close(file_);
  file_ = -1;
  std::error_code error;
  std::filesystem::rename(temporary_, path_, error);
  if (error) {
    ::unlink(temporary_.c_str());
    errno = error.value();
    fail("cannot take its name");
  }
  const auto parent = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
  if (const int folder = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
}

void SafetensorsWriter::write_all(const void* data, size_t size) {
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::write(file_, from, std::min(size, size_t{1} << 30));
    if (n < 0) {
      if (errno == EINTR) continue;
      fail("cannot be written");
    }
    from += n;
    size -= static_cast<size_t>(n);
  }
}

void SafetensorsWriter::fail(const std::string& what) const {
  const int reason = errno;
  const bool full = reason == ENOSPC || reason == EDQUOT;
  throw Error({.code = full ? ExitCode::kDiskFull : ExitCode::kFailed, .where = path_.string(), .what = what,
               .got = std::strerror(reason), .remedy = full ? "free some space or choose another folder" : ""});
}

}  // namespace kvlingua
