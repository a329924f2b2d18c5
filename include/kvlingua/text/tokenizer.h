// Tokenizer: a Hugging Face tokenizer.json (BPE, byte-level or SentencePiece-style) with character
// offsets.
//
// encode() gives what `tokenizers` gives: normaliser, added-token splitting, pre-tokenizer, BPE
// merges, post-processor. Offsets count Unicode code points of the *original* text (before
// normalisation), half open, as Hugging Face does. What a file asks for and is not supported is
// refused by name when it is loaded, never approximated.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvlingua {

class GgufFile;

struct Encoding {
  std::vector<int64_t> ids;
  // [begin, end) in code points of the text; equal for tokens the post-processor added.
  std::vector<std::pair<int64_t, int64_t>> offsets;
  size_t size() const { return ids.size(); }
};

class Tokenizer {
 public:
  // Reads tokenizer.json and, when present, tokenizer_config.json and generation_config.json beside
  // it; of a path that is_gguf_path() the tokenizer inside. Throws Error: kInput for a missing file
  // or an unsupported part (named), kCorrupt for malformed JSON.
  static Tokenizer from_directory(const std::filesystem::path& directory);
  static Tokenizer from_gguf(const GgufFile& file);
  // For tests and fuzzing: `json` is the text of tokenizer.json, `config` of tokenizer_config.json
  // (may be empty).
  static Tokenizer from_json(std::string_view json, std::string_view config = {},
                             std::string where = "tokenizer.json");

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // add_special: run the post-processor (adds BOS where the model wants one). Special tokens
  // written in the text are recognised as such, as Hugging Face does. Throws Error (kInput) with
  // the byte position for invalid UTF-8. Thread-safe.
  Encoding encode(std::string_view text, bool add_special = true) const;
  // encode(text, false), where special tokens written within `literal` (ranges of code points, in
  // order) are text like any other.
  Encoding encode_literal(std::string_view text,
                          const std::vector<std::pair<int64_t, int64_t>>& literal) const;
  // Ids without a token (a model's head may be wider than its vocabulary) decode to nothing, as
  // Hugging Face does.
  std::string decode(const std::vector<int64_t>& ids, bool skip_special = false) const;
  // The raw bytes one token stands for (may be part of a UTF-8 character); special tokens give
  // their text.
  std::string token_bytes(int64_t id) const;

  int64_t vocab_size() const;  // ids are below this, added tokens included
  std::optional<int64_t> token_to_id(std::string_view token) const;  // as written in the file
  std::string id_to_token(int64_t id) const;  // throws Error (kInput) for an id without a token
  bool is_special(int64_t id) const;
  std::optional<int64_t> bos_id() const;
  std::optional<int64_t> eos_id() const;
  std::optional<int64_t> pad_id() const;
  std::optional<int64_t> unk_id() const;
  // The model's own template (Jinja text) from tokenizer_config.json or chat_template.jinja; empty
  // when it has none.
  const std::string& chat_template() const;
  // sha256 of what determines token ids: two tokenizers with equal fingerprints give the same ids
  // for every text.
  const std::string& fingerprint() const;

 private:
  Encoding encode_with(std::string_view text, bool add_special,
                       const std::vector<std::pair<int64_t, int64_t>>& literal) const;
  friend class StreamDecoder;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Decodes tokens one by one and never cuts a UTF-8 character: bytes wait until their character is
// complete.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  std::string push(int64_t id);  // the text that became complete, maybe empty
  std::string finish();          // what is left; an incomplete character becomes U+FFFD
 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;
  bool first_ = true;
};

}  // namespace kvlingua
