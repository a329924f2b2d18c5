// A file's bytes under another name, there whole or not at all (atomic_file.h),
// on another disk too.
#pragma once

#include <filesystem>

namespace kvlingua {

// Throws Error as AtomicFile does: kDiskFull naming the bytes needed; kInput when `from` cannot be
// read.
void copy_file_atomic(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace kvlingua
