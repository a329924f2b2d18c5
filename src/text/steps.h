// The parts of a tokenizer.json around its model: normalizer, pre-tokenizer, post-processor,
// decoder.
//
// Each reads its JSON once (what is not supported is refused by name) and becomes a flat list of
// small steps.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "aligned_text.h"
#include "json_view.h"
#include "pattern.h"

namespace kvlingua::text {

// {"String": text} or {"Regex": source}
Pattern read_pattern(const JsonView& json);

// ---- normalizer: null, NFC, Prepend, Replace, Sequence ----
struct NfcStep {};
struct PrependStep {
  std::string text;
};
struct ReplaceStep {
  Pattern pattern;
  std::string content;
};
using NormalizerStep = std::variant<NfcStep, PrependStep, ReplaceStep>;

class Normalizer {
 public:
  static Normalizer read(const std::optional<JsonView>& json);
  bool empty() const { return steps_.empty(); }
  void apply(AlignedText& text) const;
  std::string apply(std::string_view text) const;  // without offsets

 private:
  std::vector<NormalizerStep> steps_;
};

// ---- pre-tokenizer: null, Split, Digits, ByteLevel, Metaspace, Sequence ----
struct SplitStep {
  Pattern pattern;
  SplitBehavior behavior;
  bool invert;
};
struct DigitsStep {
  bool individual;
};
struct ByteLevelStep {
  bool add_prefix_space;
  std::optional<Pattern> pattern;  // GPT-2's, where use_regex asks for it
};
struct MetaspaceStep {
  enum class Prepend { kAlways, kFirst, kNever };
  std::string replacement;
  Prepend prepend;
  bool split;
  Pattern space, marker;
};
using PreTokenizerStep = std::variant<SplitStep, DigitsStep, ByteLevelStep, MetaspaceStep>;

class PreTokenizer {
 public:
  static PreTokenizer read(const std::optional<JsonView>& json);
  void apply(AlignedText& text) const;
  // Of its byte-level step; none: it has no such step.
  std::optional<bool> prefix_space() const;
  void set_prefix_space(bool add);

 private:
  std::vector<PreTokenizerStep> steps_;
};

// ---- post-processor: null, ByteLevel, TemplateProcessing, Sequence ----
struct EncodedToken {
  int64_t id = 0;
  int64_t begin = 0, end = 0;  // code points of the original
};

class PostProcessor {
 public:
  // vocab_size: ids of the template must be below it.
  static PostProcessor read(const std::optional<JsonView>& json, int64_t vocab_size);
  // token_text: how token i is written in the file (added tokens: as matched in the text).
  void trim_offsets(std::vector<EncodedToken>& tokens,
                    const std::function<std::string_view(size_t)>& token_text) const;
  const std::vector<int64_t>& before() const { return before_; }
  const std::vector<int64_t>& after() const { return after_; }

 private:
  void add(const JsonView& json, int64_t vocab_size, int depth);
  void add_template(const JsonView& json, int64_t vocab_size);
  std::vector<bool> trims_;  // one ByteLevel each, with its add_prefix_space
  bool has_template_ = false;
  std::vector<int64_t> before_, after_;
};

// ---- decoder: null, ByteLevel, Replace, ByteFallback, Fuse, Strip, Sequence ----
struct DecodeByteLevel {};
struct DecodeReplace {
  Pattern pattern;
  std::string content;
};
struct DecodeByteFallback {};
struct DecodeFuse {};
struct DecodeStrip {
  char32_t content;
  size_t start;
};
using DecoderStep =
    std::variant<DecodeByteLevel, DecodeReplace, DecodeByteFallback, DecodeFuse, DecodeStrip>;

class Decoder {
 public:
  static Decoder read(const std::optional<JsonView>& json);
  std::string decode(std::vector<std::string> tokens) const;
  // The bytes one token adds to a text; stripping at the start of the whole text is left to
  // strip_start().
  std::string token_bytes(std::string_view token) const;
  // How a stream begins: what decode() would cut off the front of the whole text, cut off its first
  // part.
  std::string strip_start(std::string bytes) const;
  // No decoder at all: tokens are joined by spaces.
  bool joins_with_space() const { return !present_; }

 private:
  bool present_ = false;
  std::vector<DecoderStep> steps_;
};

// GPT-2's byte <-> character table.
char32_t byte_level_char(unsigned char byte);
// The bytes of a token all of whose characters stand in the table; nothing for others.
std::optional<std::string> byte_level_bytes(std::string_view token);

}  // namespace kvlingua::text
