// layers: io
// Any bytes as a GGUF file: refused with kCorrupt or kInput, or every byte of every tensor can be
// read, the tensors lie apart within the file, and their blocks turn into as many floats as the
// shapes say.
#include "kvlingua/io/gguf.h"

#include <cstdint>
#include <cstdlib>

#include "kvlingua/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvlingua;
  try {
    const GgufFile file = GgufFile::from_memory(std::as_bytes(std::span(data, size)));
    uint64_t total = file.header().size();
    volatile float sum = 0;
    for (const auto& [name, tensor] : file.tensors()) {
      if (tensor.elements() <= 0 || file.find(name) != &tensor) std::abort();
      std::vector<float> floats(static_cast<size_t>(tensor.elements()));
      if (tensor.data.size() / static_cast<size_t>(block_bytes(tensor.type)) *
              static_cast<size_t>(block_elements(tensor.type)) !=
          floats.size())
        std::abort();
      dequantize(tensor.type, tensor.data, floats);
      for (const float f : floats) sum = sum + f;
      total += tensor.data.size();
    }
    if (total > size) std::abort();
    for (const char* key : {"general.architecture", "tokenizer.ggml.tokens", "llama.block_count",
                            "llama.rope.freq_base", "tokenizer.ggml.scores"}) {
      try {
        static_cast<void>(file.text(key));
        static_cast<void>(file.integer(key));
        static_cast<void>(file.strings(key));
      } catch (const Error& error) {
        if (error.code() != ExitCode::kCorrupt) std::abort();
      }
    }
  } catch (const Error& error) {
    if (error.code() != ExitCode::kCorrupt && error.code() != ExitCode::kInput) std::abort();
  }
  return 0;
}
