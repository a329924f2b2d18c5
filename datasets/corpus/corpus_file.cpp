#include "datasets/corpus/corpus_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

constexpr int64_t kBlock = 1 << 20;
constexpr int64_t kLongestRecord = int64_t{64} << 20;

[[noreturn]] void unusable(const std::string& where, const std::string& what,
                           const std::string& remedy) {
  throw Error({.code = ExitCode::kInput, .where = where, .what = what, .remedy = remedy});
}

void refuse_other_kinds(const std::filesystem::path& path, std::string_view head) {
  const auto begins = [&](std::string_view magic) { return head.substr(0, magic.size()) == magic; };
  const std::string stem = path.stem().string();
  if (begins("PAR1") || begins("ARROW1") || path.extension() == ".parquet") {
    unusable(path.string(), "Parquet and Arrow files are not read",
             cat("convert it: python3 -c \"import pandas; pandas.read_parquet('",
                 path.filename().string(), "').to_json('", stem,
                 ".jsonl', orient='records', lines=True)\""));
  }
  if (begins("\x1f\x8b"))
    unusable(path.string(), "compressed files are not read",
             cat("gunzip -k ", path.filename().string()));
  if (begins("\x28\xb5\x2f\xfd"))
    unusable(path.string(), "compressed files are not read",
             cat("zstd -d ", path.filename().string()));
}

// Follows one JSON text byte by byte, as far as needed to tell where the elements of its outermost
// array lie.
class ArrayScanner {
 public:
  bool in_element() const { return depth_ > 1 || in_string_; }
  bool ended() const { return started_ && depth_ == 0; }
  // Returns +1 when an element begins with this byte, -1 when it ends with it, else 0.
  int step(char c) {
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
      return 0;
    }
    switch (c) {
      case '"':
        in_string_ = true;
        return 0;
      case '[':
      case '{':
        started_ = true;
        return ++depth_ == 2 ? 1 : 0;
      case ']':
      case '}':
        return --depth_ == 1 ? -1 : 0;
      default:
        return 0;
    }
  }

 private:
  int64_t depth_ = 0;
  bool started_ = false, in_string_ = false, escaped_ = false;
};

}  // namespace

RecordFile::RecordFile(const std::filesystem::path& path, RecordLayout layout) : path_(path) {
  if (std::filesystem::is_directory(path))
    unusable(path.string(), "is a folder", "name the files in it under data.files");
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0)
    unusable(path.string(), cat("cannot be read: ", std::strerror(errno)), "check data.files");
  struct stat status {};
  try {
    if (::fstat(fd_, &status) == 0 && !S_ISREG(status.st_mode))
      unusable(path.string(), "is no regular file: its records are read more than once",
               "write what it gives into a file");
    scan(layout);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

RecordFile::~RecordFile() { ::close(fd_); }

void RecordFile::scan(RecordLayout layout) {
  std::string block(static_cast<size_t>(kBlock), '\0');
  Sha256 hash;
  ArrayScanner scanner;
  bool array = false, first = true, line_blank = true;
  int64_t offset = 0, begin = 0;  // of the block, of the current line or element
  while (true) {
    const ssize_t n = ::pread(fd_, block.data(), block.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      unusable(path_.string(), cat("cannot be read: ", std::strerror(errno)), "check data.files");
    if (n == 0) break;
    const std::string_view bytes(block.data(), static_cast<size_t>(n));
    hash.update(bytes);
    size_t from = 0;
    if (first) {
      refuse_other_kinds(path_, bytes.substr(0, 16));
      from = bytes.size() - without_bom(bytes).size();
      begin = static_cast<int64_t>(from);
      const size_t start = bytes.find_first_not_of(" \t\r\n", from);
      array = layout == RecordLayout::kLinesOrArray && start != std::string_view::npos &&
              bytes[start] == '[';
      first = false;
    }
    for (size_t i = from; i < bytes.size(); ++i) {
      const char c = bytes[i];
      const int64_t at = offset + static_cast<int64_t>(i);
      if (array) {
        const int edge = scanner.step(c);
        if (edge > 0) begin = at;
        if (edge < 0) records_.push_back({begin, at + 1});
      } else if (c == '\n') {
        if (!line_blank) records_.push_back({begin, at});
        begin = at + 1;
        line_blank = true;
      } else if (c != ' ' && c != '\t' && c != '\r') {
        line_blank = false;
      }
    }
    offset += n;
  }
  if (array && !scanner.ended()) {
    records_.push_back({begin, offset});
    unusable(place(size() - 1), "the JSON array does not end",
             "the file seems to be cut off: fetch it again");
  }
  if (!array && !line_blank) records_.push_back({begin, offset});
  sha256_ = hash.hex();
}

std::string RecordFile::read(int64_t i) const {
  const Extent extent = records_.at(static_cast<size_t>(i));
  const int64_t length = extent.end - extent.begin;
  if (length > kLongestRecord) {
    throw Error({.code = ExitCode::kInput,
                 .where = place(i),
                 .what = "the record is too long",
                 .got = cat(length, " bytes"),
                 .expected = cat("at most ", kLongestRecord),
                 .remedy = "split it, or leave such ones out with --skip-bad"});
  }
  std::string bytes(static_cast<size_t>(length), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::pread(fd_, bytes.data() + done, bytes.size() - done,
                              static_cast<off_t>(extent.begin + static_cast<int64_t>(done)));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) unusable(path_.string(), "the file changed while it was read", "start again");
    done += static_cast<size_t>(n);
  }
  if (!bytes.empty() && bytes.back() == '\r') bytes.pop_back();
  return bytes;
}

std::string RecordFile::place(int64_t i) const {
  const int64_t end = records_.at(static_cast<size_t>(i)).begin;
  std::string block(static_cast<size_t>(kBlock), '\0');
  int64_t line = 1;
  for (int64_t at = 0; at < end;) {
    const ssize_t n = ::pread(fd_, block.data(), static_cast<size_t>(std::min(kBlock, end - at)),
                              static_cast<off_t>(at));
    if (n <= 0) break;
    line += std::count(block.data(), block.data() + n, '\n');
    at += n;
  }
  return cat(path_.string(), ":", line);
}

}  // namespace kvlingua
