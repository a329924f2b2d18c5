// Files that are there whole or not at all, whatever happens in between: written under a temporary
// name in the same folder, flushed to the disk, renamed, and the folder flushed. A killed run
// leaves a `.NAME.tmp-*` file, which the next writer of NAME removes.
//
// Errors: kDiskFull when the disk or quota is full, kInput when the folder is not there or may not
// be written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace kvlingua {

class AtomicFile {
 public:
  // bytes_needed: what will be written in all, if known; for the message when the disk is full.
  explicit AtomicFile(std::filesystem::path path, uint64_t bytes_needed = 0);
  ~AtomicFile();  // without commit(): removes the temporary file
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;

  // Appends; not buffered, so write blocks.
  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Writes at a place; the file grows as needed. Does not move the end that write() appends to.
  void write_at(uint64_t offset, const void* data, size_t size);

  // Makes the file appear under its name, durably. Nothing may be written afterwards.
  void commit();

  const std::filesystem::path& path() const { return path_; }
  // Where the bytes are until commit(), for libraries that write files themselves; they must have
  // closed it by then.
  const std::filesystem::path& temporary_path() const { return temporary_; }

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  uint64_t bytes_needed_ = 0;
  uint64_t end_ = 0;
  int fd_ = -1;
};

void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

// One line (without its '\n') added at the end of a file and flushed to the disk, in a single
// write.
void append_line_durable(const std::filesystem::path& path, std::string_view line);

// Creates a folder and its missing parents, durably.
void make_directories(const std::filesystem::path& folder);

// A new empty folder beside `final_name`, `.NAME.partial-PID-N`, for publish_directory; it is the
// caller's to remove when it is not published. What killed processes of this machine left under
// such names is removed.
std::filesystem::path temporary_directory(const std::filesystem::path& final_name);

// Makes a finished folder appear under its final name, durably; all in it is flushed first. An
// existing folder of that name is replaced (exchanged atomically where the file system can) and
// then removed.
void publish_directory(const std::filesystem::path& temporary,
                       const std::filesystem::path& final_name);

}  // namespace kvlingua
