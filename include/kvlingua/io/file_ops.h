// The one door through which kvlingua changes files: open, write, sync, truncate, rename, remove.
// They are the system calls, but counted, so that a test can make the n-th of them fail. The idea
// is SQLite's: a program that survives its death before every single operation survives a crash.
//
// Test instrumentation, inert unless asked for: KVLINGUA_FAULT in the environment, or set_fault(),
//   kill@n     the process kills itself (SIGKILL) at operation n; a write is half done by then
//   enospc@n   operation n and every later one that needs space fails with ENOSPC
//   eio@n      operation n and every later one fails with EIO
//   enospc-once@n, eio-once@n   operation n alone
//   short@n    operation n, if a write, writes only half of what it was given
// Operations are counted from 1 over the whole process.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace kvlingua::file_ops {

// As the system calls of these names: -1 and errno on failure. Interrupted calls are repeated.
int open(const std::filesystem::path& path, int flags, mode_t mode = 0666);
ssize_t write(int fd, const void* data, size_t size);
ssize_t pwrite(int fd, const void* data, size_t size, off_t offset);
int sync(int fd);
int truncate(int fd, off_t size);
int rename(const std::filesystem::path& from, const std::filesystem::path& to);
// renameat2(RENAME_EXCHANGE)
int exchange(const std::filesystem::path& a, const std::filesystem::path& b);
int remove(const std::filesystem::path& path);
int make_directory(const std::filesystem::path& path);

// Makes the names in a folder durable. A file system that cannot is not an error.
int sync_directory(const std::filesystem::path& folder);

// Writes all of it, however often the system writes short; false and errno on failure. Writing
// nothing counts as ENOSPC.
bool write_all(int fd, const void* data, size_t size);
bool pwrite_all(int fd, const void* data, size_t size, off_t offset);

// Counts an operation that goes another way (HDF5 writes its files itself). 0, or the errno to fail
// with.
int step();

// Before a file is opened to go on writing it. Throws Error (kInput) when something else has its
// name: a FIFO would be waited for, for ever.
void must_be_regular(const std::filesystem::path& path);

// Operations so far.
int64_t count();
// Replaces KVLINGUA_FAULT and restarts the count; empty: no fault. Throws Error (kUsage) for what
// it does not know.
void set_fault(std::string_view spec);

// The Error for a failed operation: kDiskFull for ENOSPC and EDQUOT, naming the bytes needed and
// free; kInput for a place that may not be written; kFailed otherwise.
[[noreturn]] void fail(const std::filesystem::path& path, std::string what, int error,
                       uint64_t bytes_needed = 0);

}  // namespace kvlingua::file_ops
