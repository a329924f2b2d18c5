// layers: io text
// Any bytes as a GGUF file with a tokenizer: refused with kCorrupt or kInput, or a tokenizer that
// encodes and decodes.
#include <cstdint>
#include <cstdlib>

#include "kvlingua/base/error.h"
#include "kvlingua/io/gguf.h"
#include "kvlingua/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvlingua;
  try {
    const GgufFile file = GgufFile::from_memory(std::as_bytes(std::span(data, size)));
    const Tokenizer tokenizer = Tokenizer::from_gguf(file);
    const Encoding encoding = tokenizer.encode("The cat's 12 \xe4\xbd\xa0 <s>\n");
    for (const int64_t id : encoding.ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
    }
    static_cast<void>(tokenizer.decode(encoding.ids));
  } catch (const Error& error) {
    if (error.code() != ExitCode::kCorrupt && error.code() != ExitCode::kInput) std::abort();
  }
  return 0;
}
