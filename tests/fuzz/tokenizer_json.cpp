// layers: text
// A tokenizer.json from a stranger: loads and works, or is refused by an Error; nothing else.
// Input: the file's text; after a byte 0xFF (which no JSON holds) a text to encode with it.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "kvlingua/base/error.h"
#include "kvlingua/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\xFF');
  const std::string_view json = input.substr(0, cut);
  const std::string_view text = cut == std::string_view::npos
                                    ? std::string_view("a b<s>\xC3\xA9 12\n")
                                    : input.substr(cut + 1);
  try {
    const auto tokenizer = kvlingua::Tokenizer::from_json(
        json, json.substr(0, json.size() % 7 == 0 ? json.size() : 0));
    const kvlingua::Encoding encoding = tokenizer.encode(text);
    for (int64_t id : encoding.ids) {
      if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
    }
    if (encoding.offsets.size() != encoding.ids.size()) std::abort();
    for (const auto& [begin, end] : encoding.offsets) {
      if (begin < 0 || end < begin || end > static_cast<int64_t>(text.size())) std::abort();
    }
    tokenizer.decode(encoding.ids, true);
    kvlingua::StreamDecoder stream(tokenizer);
    for (int64_t id : encoding.ids) stream.push(id);
    stream.finish();
  } catch (const kvlingua::Error&) {
  }
  return 0;
}
