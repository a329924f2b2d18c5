// layers: text
// Any bytes through small valid tokenizers of both kinds: refused as invalid UTF-8, or encoded with
// offsets that lie in the text, decoded to the text again, and streamed to the same as decoded at
// once.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/text/alignment.h"
#include "kvlingua/text/tokenizer.h"
#include "src/text/steps.h"

namespace {

using kvlingua::Tokenizer;

// Every byte has its token; a few merges and added tokens.
std::string byte_level_json() {
  nlohmann::json vocab, merges = nlohmann::json::array();
  const auto name = [](unsigned char byte) {
    std::string out;
    kvlingua::append_utf8(out, kvlingua::text::byte_level_char(byte));
    return out;
  };
  for (int b = 0; b < 256; ++b) vocab[name(static_cast<unsigned char>(b))] = b;
  const auto merge = [&](const std::string& a, const std::string& b) {
    merges.push_back({a, b});
    const auto id = vocab.size();
    vocab[a + b] = id;
  };
  merge("a", "b");
  merge("ab", "ab");
  merge(name(' '), "a");
  merge(name(0xC3), name(0xA9));
  merge("1", "1");
  const auto id = vocab.size();
  const auto pattern =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const nlohmann::json bytes = {{"type", "ByteLevel"},
                                {"add_prefix_space", false},
                                {"trim_offsets", true},
                                {"use_regex", false}};
  const nlohmann::json split = {{"type", "Split"},
                                {"pattern", {{"Regex", pattern}}},
                                {"behavior", "Isolated"},
                                {"invert", false}};
  const nlohmann::json added = {
      {{"id", id}, {"content", "<s>"}, {"special", true}, {"normalized", false}},
      {{"id", id + 1}, {"content", "<|x|>"}, {"special", false}, {"normalized", false}}};
  return nlohmann::json{
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}},
      {"added_tokens", added},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}},
      {"decoder", bytes}}
      .dump();
}

std::string sentencepiece_json(bool nfc) {
  nlohmann::json vocab = {{"<unk>", 0},
                          {"\xE2\x96\x81", 1},
                          {"a", 2},
                          {"b", 3},
                          {"\xE2\x96\x81"
                           "a",
                           4},
                          {"ab", 5},
                          {"\xC3\xA9", 6}};
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    vocab[name] = 7 + b;
  }
  nlohmann::json spec = nlohmann::json::parse(R"({"decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}})");
  if (nfc) spec["normalizer"]["normalizers"].push_back({{"type", "NFC"}});
  spec["model"] = {{"type", "BPE"},
                   {"vocab", vocab},
                   {"merges", std::vector<std::string>{"\xE2\x96\x81 a", "a b"}},
                   {"unk_token", "<unk>"},
                   {"byte_fallback", true},
                   {"fuse_unk", true}};
  return spec.dump();
}

void check(const Tokenizer& tokenizer, std::string_view text, bool exact) {
  const kvlingua::Encoding encoding = tokenizer.encode(text);
  for (const auto& [begin, end] : encoding.offsets) {
    if (begin < 0 || end < begin || end > static_cast<int64_t>(text.size())) std::abort();
  }
  const std::string decoded = tokenizer.decode(encoding.ids);
  if (exact && decoded != text) std::abort();
  kvlingua::StreamDecoder stream(tokenizer, false);
  std::string streamed;
  for (int64_t id : encoding.ids) streamed += stream.push(id);
  streamed += stream.finish();
  if (streamed != decoded) std::abort();
  const auto same = kvlingua::align(encoding, encoding, kvlingua::AlignmentKind::kLastChar);
  if (same.source_index.size() != encoding.size()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer byte_level = Tokenizer::from_json(byte_level_json());
  static const Tokenizer pieces = Tokenizer::from_json(sentencepiece_json(false));
  static const Tokenizer composed = Tokenizer::from_json(sentencepiece_json(true));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const bool valid = !kvlingua::find_invalid_utf8(text).has_value();
  try {
    check(byte_level, text, true);
    // The mark U+2581 in the text is read as a space, as SentencePiece does.
    check(pieces, text, text.find("\xE2\x96\x81") == std::string_view::npos);
    check(composed, text, false);
    if (!valid) std::abort();
  } catch (const kvlingua::Error&) {
    if (valid) std::abort();
  }
  return 0;
}
