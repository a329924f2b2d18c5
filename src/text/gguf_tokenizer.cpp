#include "gguf_tokenizer.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua::text {
namespace {

using Json = nlohmann::json;

// llama.cpp's numbers of what a token is (tokenizer.ggml.token_type).
enum TokenType : int64_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

[[noreturn]] void refuse(const GgufFile& file, ExitCode code, const char* key, std::string what,
                         std::string got = {}, std::string expected = {}) {
  throw Error({.code = code,
               .where = cat(file.where(), ": ", key),
               .what = std::move(what),
               .got = std::move(got),
               .expected = std::move(expected),
               .remedy = code == ExitCode::kInput ? "use the model's Hugging Face files"
                                                  : "download the file again"});
}

Json byte_level(bool trim_offsets, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", trim_offsets},
          {"use_regex", use_regex}};
}

Json sequence(const char* members, Json steps) {
  return {{"type", "Sequence"}, {members, std::move(steps)}};
}

Json split_by(const char* pattern) {
  return sequence("pretokenizers", {{{"type", "Split"},
                                     {"pattern", {{"Regex", pattern}}},
                                     {"behavior", "Isolated"},
                                     {"invert", false}},
                                    byte_level(true, false)});
}

class Builder {
 public:
  explicit Builder(const GgufFile& file) : file_(file) { read_tokens(); }

  GgufTokenizer build() {
    const std::string kind(text("tokenizer.ggml.model").value_or(""));
    if (kind == "gpt2") {
      byte_level_bpe();
    } else if (kind == "llama") {
      sentence_pieces();
    } else {
      refuse(file_, ExitCode::kInput, "tokenizer.ggml.model",
             kind.empty() ? "the file has no tokenizer" : "tokenizer not supported",
             printable(kind), "gpt2 or llama");
    }
    put_vocabulary();
    out_.tokenizer["model"] = std::move(model_);
    put_post_processor();
    put_config();
    return std::move(out_);
  }

 private:
  std::optional<std::string_view> text(const char* key) const {
    const auto found = file_.text(key);
    if (found && find_invalid_utf8(*found)) refuse(file_, ExitCode::kCorrupt, key, "not UTF-8");
    return found;
  }

  void read_tokens() {
    const char* key = "tokenizer.ggml.tokens";
    const GgufFile::Strings* tokens = file_.strings(key);
    if (tokens == nullptr || tokens->empty())
      refuse(file_, ExitCode::kInput, key, "the file has no tokenizer");
    tokens_ = *tokens;
    for (const std::string_view token : tokens_) {
      if (find_invalid_utf8(token))
        refuse(file_, ExitCode::kCorrupt, key, "not UTF-8", printable(token));
    }
    const GgufFile::Integers* types = file_.integers("tokenizer.ggml.token_type");
    types_ = types == nullptr ? GgufFile::Integers(tokens_.size(), kNormal) : *types;
    if (types_.size() != tokens_.size())
      refuse(file_, ExitCode::kCorrupt, "tokenizer.ggml.token_type", "wrong length",
             cat(types_.size()), cat(tokens_.size(), ", as tokenizer.ggml.tokens"));
    // What stands behind the last token that is used fills the embedding alone.
    while (!types_.empty() && types_.back() == kUnused) types_.pop_back(), tokens_.pop_back();
    in_model_ = tokens_.size();
    while (in_model_ > 0 && types_[in_model_ - 1] != kNormal) --in_model_;
  }

  // Recognised in a text before it is cut into words.
  bool added(size_t id) const {
    return types_[id] == kControl || types_[id] == kUserDefined ||
           (types_[id] == kUnused && id >= in_model_) || types_[id] == kUnknown;
  }

  void put_vocabulary() {
    Json vocab = Json::object(), list = Json::array();
    for (size_t id = 0; id < tokens_.size(); ++id) {
      const std::string token(tokens_[id]);
      if (id < in_model_ && !vocab.emplace(token, id).second)
        refuse(file_, ExitCode::kCorrupt, "tokenizer.ggml.tokens", "given twice", printable(token));
      if (!added(id)) continue;
      list.push_back({{"id", id},
                      {"content", token},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", types_[id] != kUserDefined}});
    }
    model_["vocab"] = std::move(vocab);
    out_.tokenizer["added_tokens"] = std::move(list);
  }

  void byte_level_bpe() {
    const std::string pre(text("tokenizer.ggml.pre").value_or("default"));
    const auto one_of = [&](std::initializer_list<std::string_view> names) {
      return std::find(names.begin(), names.end(), pre) != names.end();
    };
    bool ignore_merges = false;
    Json& tokenizer = out_.tokenizer;
    if (one_of({"qwen2", "deepseek-r1-qwen"})) {
      tokenizer["normalizer"] = {{"type", "NFC"}};
      tokenizer["pre_tokenizer"] = split_by(kQwen2Pattern);
      offsets_ = byte_level(false, false);
    } else if (one_of({"llama-bpe", "llama3", "llama-v3"})) {
      tokenizer["pre_tokenizer"] = split_by(kLlama3Pattern);
      offsets_ = byte_level(false, false);
      ignore_merges = true;
      begins_with_bos_ = true;
    } else if (one_of({"smollm", "starcoder", "refact"})) {
      tokenizer["pre_tokenizer"] =
          sequence("pretokenizers",
                   {{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true, true)});
    } else if (one_of({"gpt-2", "gpt2"})) {
      tokenizer["pre_tokenizer"] = byte_level(true, true);
      offsets_ = byte_level(true, true);
    } else {
      refuse(file_, ExitCode::kInput, "tokenizer.ggml.pre", "pre-tokenizer not supported",
             printable(pre),
             "qwen2, deepseek-r1-qwen, llama-bpe, smollm, starcoder, refact or gpt-2");
    }
    tokenizer["decoder"] = byte_level(true, true);
    const GgufFile::Strings* merges = file_.strings("tokenizer.ggml.merges");
    if (merges == nullptr) refuse(file_, ExitCode::kCorrupt, "tokenizer.ggml.merges", "missing");
    Json list = Json::array();
    for (const std::string_view merge : *merges) {
      if (find_invalid_utf8(merge))
        refuse(file_, ExitCode::kCorrupt, "tokenizer.ggml.merges", "not UTF-8", printable(merge));
      list.push_back(std::string(merge));
    }
    model_ = {{"type", "BPE"}, {"ignore_merges", ignore_merges}, {"merges", std::move(list)}};
  }

  // Llama 2's tokenizer.json: spaces are U+2581, one in front of every stretch of text; what has no
  // piece is spelt in bytes.
  void sentence_pieces() {
    static const std::string kSpace = "\xe2\x96\x81";
    const bool space = file_.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
    if (file_.boolean("tokenizer.ggml.remove_extra_whitespaces").value_or(false))
      refuse(file_, ExitCode::kInput, "tokenizer.ggml.remove_extra_whitespaces", "not supported");
    const Json spaces = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}};
    const Json back = {{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}};
    Json steps = Json::array(), decoders = {back, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
    if (space) {
      steps.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
      decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    }
    steps.push_back(spaces);
    out_.tokenizer["normalizer"] = sequence("normalizers", std::move(steps));
    out_.tokenizer["decoder"] = sequence("decoders", std::move(decoders));
    in_model_ = 0;  // unknown and control tokens stand among SentencePiece's pieces
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (types_[id] == kNormal || types_[id] == kByte || types_[id] == kUnknown)
        in_model_ = id + 1;
    }
    model_ = {{"type", "BPE"}, {"fuse_unk", true}, {"byte_fallback", true}, {"merges", merges()}};
    const auto unknown = std::find(types_.begin(), types_.end(), kUnknown);
    if (unknown != types_.end())
      model_["unk_token"] = std::string(tokens_[static_cast<size_t>(unknown - types_.begin())]);
    begins_with_bos_ = true;
  }

  // The pairs of pieces that make a piece, best scores first; as transformers derives them.
  Json merges() const {
    const GgufFile::Reals* scores = file_.reals("tokenizer.ggml.scores");
    if (scores == nullptr || scores->size() < tokens_.size())
      refuse(file_, ExitCode::kCorrupt, "tokenizer.ggml.scores", "wrong length",
             cat(scores == nullptr ? 0 : scores->size()), cat(tokens_.size()));
    std::unordered_map<std::string_view, size_t> id_of;
    for (size_t id = 0; id < in_model_; ++id) id_of.emplace(tokens_[id], id);
    struct Merge {
      std::string_view left, right;
      size_t left_id, right_id;
      double score;
    };
    constexpr size_t kMaxPieceBytes = 1024;
    std::vector<Merge> all;
    for (size_t id = 0; id < in_model_; ++id) {
      const std::string_view piece = tokens_[id];
      if (piece.size() > kMaxPieceBytes)
        refuse(file_, ExitCode::kCorrupt, "tokenizer.ggml.tokens", "too long", printable(piece));
      const size_t first = all.size();
      for (size_t cut = 1; cut < piece.size(); ++cut) {
        if (!begins_character(piece[cut])) continue;
        const auto left = id_of.find(piece.substr(0, cut)), right = id_of.find(piece.substr(cut));
        if (left != id_of.end() && right != id_of.end())
          all.push_back({left->first, right->first, left->second, right->second, (*scores)[id]});
      }
      std::sort(all.begin() + static_cast<std::ptrdiff_t>(first), all.end(),
                [](const Merge& a, const Merge& b) {
                  return std::pair(a.left_id, a.right_id) < std::pair(b.left_id, b.right_id);
                });
    }
    std::stable_sort(all.begin(), all.end(), [](const Merge& a, const Merge& b) {
      const auto key = [](const Merge& m) {
        return std::tuple(m.score, count_characters(m.left), count_characters(m.right));
      };
      return key(a) > key(b);
    });
    Json list = Json::array();
    for (const Merge& merge : all)
      list.push_back({std::string(merge.left), std::string(merge.right)});
    return list;
  }

  // The token whose id stands under a key.
  std::optional<std::string> named(const char* key) const {
    const auto id = file_.integer(key);
    if (!id || *id < 0 || static_cast<uint64_t>(*id) >= tokens_.size()) return std::nullopt;
    return std::string(tokens_[static_cast<size_t>(*id)]);
  }

  void put_post_processor() {
    const auto bos = named("tokenizer.ggml.bos_token_id"),
               eos = named("tokenizer.ggml.eos_token_id");
    const bool before = file_.boolean("tokenizer.ggml.add_bos_token").value_or(begins_with_bos_),
               after = file_.boolean("tokenizer.ggml.add_eos_token").value_or(false);
    if ((before && !bos) || (after && !eos))
      refuse(file_, ExitCode::kCorrupt, "tokenizer.ggml.bos_token_id",
             "a text is to begin or end with a token that is not named");
    Json single = Json::array(), special = Json::object();
    const auto put = [&](const std::string& token, const char* key) {
      single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
      special[token] = {{"id", token},
                        {"ids", Json::array({*file_.integer(key)})},
                        {"tokens", Json::array({token})}};
    };
    if (before) put(*bos, "tokenizer.ggml.bos_token_id");
    single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    if (after) put(*eos, "tokenizer.ggml.eos_token_id");
    const Json around = {{"type", "TemplateProcessing"},
                         {"single", single},
                         {"pair",
                          {{{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                           {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}}},
                         {"special_tokens", special}};
    if (!before && !after) {
      if (!offsets_.is_null()) out_.tokenizer["post_processor"] = offsets_;
    } else {
      out_.tokenizer["post_processor"] =
          offsets_.is_null() ? around : sequence("processors", Json::array({offsets_, around}));
    }
  }

  void put_config() {
    for (const auto& [key, name] : {std::pair("tokenizer.ggml.bos_token_id", "bos_token"),
                                    std::pair("tokenizer.ggml.eos_token_id", "eos_token"),
                                    std::pair("tokenizer.ggml.padding_token_id", "pad_token"),
                                    std::pair("tokenizer.ggml.unknown_token_id", "unk_token")}) {
      if (const auto token = named(key)) out_.config[name] = *token;
    }
    if (const auto chat = text("tokenizer.chat_template"))
      out_.config["chat_template"] = std::string(*chat);
    if (out_.config.is_null()) out_.config = Json::object();
  }

  const GgufFile& file_;
  GgufFile::Strings tokens_;
  GgufFile::Integers types_;
  size_t in_model_ = 0;  // tokens below this id are in the model's vocabulary
  Json model_, offsets_;
  bool begins_with_bos_ = false;  // where the file does not say
  GgufTokenizer out_;
};

}  // namespace

GgufTokenizer read_gguf_tokenizer(const GgufFile& file) { return Builder(file).build(); }

}  // namespace kvlingua::text
