#include "kvlingua/io/copy_file.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "file_mapping.h"
#include "kvlingua/io/atomic_file.h"

namespace kvlingua {

void copy_file_atomic(const std::filesystem::path& from, const std::filesystem::path& to) {
  constexpr size_t kPiece = size_t{8} << 20;
  const FileMapping mapping(from);
  const std::span<const std::byte> bytes = mapping.bytes();
  AtomicFile file(to, bytes.size());
  for (size_t at = 0; at < bytes.size(); at += kPiece)
    file.write(bytes.data() + at, std::min(kPiece, bytes.size() - at));
  file.commit();
}

}  // namespace kvlingua
