// layers: io
// Any bytes as a safetensors file: refused with kCorrupt, or every byte of every tensor can be read
// and they cover the data.
#include "kvlingua/io/safetensors.h"

#include <cstdint>
#include <cstdlib>

#include "kvlingua/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvlingua;
  try {
    const SafetensorsFile file = SafetensorsFile::from_memory(std::as_bytes(std::span(data, size)));
    uint64_t total = 0;
    volatile unsigned sum = 0;
    for (const auto& [name, tensor] : file.tensors()) {
      for (const std::byte b : tensor.data) sum = sum + static_cast<unsigned>(b);
      if (tensor.elements() < 0) std::abort();
      if (static_cast<uint64_t>(tensor.elements()) *
              static_cast<uint64_t>(bit_width(tensor.dtype)) !=
          8 * tensor.data.size())
        std::abort();
      if (file.find(name) != &tensor) std::abort();
      total += tensor.data.size();
    }
    uint64_t header = 0;
    __builtin_memcpy(&header, data, sizeof header);
    if (total + sizeof header + header != size) std::abort();
  } catch (const Error& error) {
    if (error.code() != ExitCode::kCorrupt) std::abort();
  }
  return 0;
}
