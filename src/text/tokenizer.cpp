#include "kvlingua/text/tokenizer.h"

#include <algorithm>

#include "added_tokens.h"
#include "aligned_text.h"
#include "bpe.h"
#include "gguf_tokenizer.h"
#include "json_view.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/sha256.h"
#include "special_tokens.h"
#include "steps.h"

namespace kvlingua {

using text::AddedToken;
using text::AlignedText;
using text::JsonView;
using text::Piece;

namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 31;
constexpr uintmax_t kMaxFileBytes = uintmax_t{1} << 29;

std::optional<std::string> read_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) {
    if (!std::filesystem::exists(path)) return std::nullopt;
    throw Error({.code = ExitCode::kInput,
                 .where = path.string(),
                 .what = "cannot be read",
                 .got = error.message()});
  }
  if (size > kMaxFileBytes) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = path.string(),
                 .what = "too large",
                 .got = cat(size, " bytes")});
  }
  return read_text_file(path, kMaxFileBytes);
}

}  // namespace

struct Tokenizer::Impl {
  text::BpeModel model;
  text::Normalizer normalizer;
  text::AddedTokens added;
  text::PreTokenizer pre_tokenizer;
  text::PostProcessor post_processor;
  text::Decoder decoder;
  std::string fingerprint;
  std::string chat_template;
  std::optional<int64_t> bos, eos, pad, unk;
  bool split_special = false;  // special tokens written in a text are text

  std::vector<text::EncodedToken> tokens_of(const AlignedText& aligned, size_t guess) const;

  explicit Impl(const JsonView& json)
      : model(json.at("model")),
        normalizer(text::Normalizer::read(json.find("normalizer"))),
        added(json.find("added_tokens"), model, normalizer),
        pre_tokenizer(text::PreTokenizer::read(json.find("pre_tokenizer"))),
        post_processor(text::PostProcessor::read(json.find("post_processor"), added.vocab_size())),
        decoder(text::Decoder::read(json.find("decoder"))) {
    json.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
               "post_processor", "decoder", "model"});
    if (const auto version = json.find("version"); version && version->string() != "1.0")
      version->unsupported(printable(version->string(), 40), "version 1.0");
    // truncation and padding are what somebody's last call asked for; transformers sets both anew
    // for every call, and so neither changes what a text's tokens are.
    if (model.unk_id()) unk = *model.unk_id();
    fingerprint = make_fingerprint(json.value());
  }

  std::string make_fingerprint(const nlohmann::json& json) const {
    Sha256 hash;
    hash.update(model.digest()).update(added.digest());
    for (const char* key : {"normalizer", "pre_tokenizer", "post_processor"}) {
      const auto it = json.find(key);
      hash.update(cat(" ", key, " ", it == json.end() ? "null" : it->dump()));
    }
    return hash.hex();
  }

  // The text of a token before decoding.
  const std::string* written(int64_t id) const {
    if (const AddedToken* token = added.by_id(id)) return &token->normalized_content;
    return id >= 0 && id < model.size() ? &model.token(id) : nullptr;
  }

  std::optional<int64_t> find(std::string_view token) const {
    if (const AddedToken* one = added.by_content(token)) return one->id;
    const auto it = model.vocab().find(token);
    if (it == model.vocab().end()) return std::nullopt;
    return it->second;
  }

  // A special token of tokenizer_config.json: text, or an object with it.
  static std::optional<std::string> word_of(const JsonView& config, const char* key) {
    const auto entry = config.find(key);
    if (!entry) return std::nullopt;
    return entry->value().is_object() ? entry->string("content") : entry->string();
  }

  void add_named(const std::vector<text::NamedToken>& named, const std::string& where) {
    bool changed = false;
    for (const text::NamedToken& one : named) {
      const AddedToken* there = added.by_content(one.token.content);
      if (there != nullptr && (one.only_if_missing || same_rules(*there, one.token))) continue;
      const int64_t id = added.put(one.token, model, normalizer, where);
      changed = true;
      if (!one.id || *one.id == id) continue;
      throw Error({.code = ExitCode::kInput,
                   .where = where,
                   .what = cat("added token ", printable(one.token.content, 40),
                               " cannot have this number"),
                   .got = cat(*one.id),
                   .expected = cat(id, ", the next free one")});
    }
    if (changed) also_in_fingerprint(cat(" added ", added.digest()));
  }

  static bool same_rules(const AddedToken& a, const AddedToken& b) {
    return a.single_word == b.single_word && a.lstrip == b.lstrip && a.rstrip == b.rstrip &&
           a.normalized == b.normalized && a.special == b.special;
  }

  void also_in_fingerprint(const std::string& what) {
    Sha256 hash;
    fingerprint = hash.update(fingerprint).update(what).hex();
  }

  // transformers' classes for Qwen2 and GPT-2 build their byte-level step from the config; its
  // plain one leaves that of tokenizer.json. What other classes do is not known here.
  void read_prefix_space(const JsonView& config) {
    const auto there = pre_tokenizer.prefix_space();
    const auto key = config.find("add_prefix_space");
    const std::string name = word_of(config, "tokenizer_class").value_or("");
    const bool rebuilt = name.starts_with("Qwen2Tokenizer") || name.starts_with("GPT2Tokenizer");
    if (!there || (!key && !rebuilt)) return;
    const bool asked = config.boolean("add_prefix_space", false);
    if (asked == *there) return;
    if (rebuilt) {
      pre_tokenizer.set_prefix_space(asked);
      also_in_fingerprint(cat(" prefix space ", asked));
    } else if (!name.empty() && name != "PreTrainedTokenizerFast" && name != "TokenizersBackend") {
      config.unsupported(cat("add_prefix_space ", asked ? "true" : "false", " of ",
                             printable(name, 40), ", other than in tokenizer.json"));
    }
  }

  void read_config(const JsonView& config, const std::optional<JsonView>& map = std::nullopt,
                   const std::optional<JsonView>& added_tokens = std::nullopt) {
    add_named(text::named_tokens(config, map, added_tokens), config.where());
    const auto special = [&](const char* key) -> std::optional<int64_t> {
      const bool legacy = map && !config.find("added_tokens_decoder") && map->find(key);
      const auto word = word_of(legacy ? *map : config, key);
      return word ? find(*word) : std::nullopt;
    };
    bos = special("bos_token");
    eos = special("eos_token");
    pad = special("pad_token");
    if (const auto id = special("unk_token")) unk = id;
    read_prefix_space(config);
    // add_bos_token and add_eos_token change nothing: from_pretrained drops both, and
    // tokenizer.json says what is put around a text.
    split_special = config.boolean("split_special_tokens", false);
    if (split_special) also_in_fingerprint(" split special");
    const auto chat = config.find("chat_template");
    if (!chat) return;
    if (chat->value().is_string()) {
      chat_template = chat->string();
      return;
    }
    for (size_t i = 0; i < chat->array_size(); ++i) {  // several, by name
      const JsonView one = chat->element(i);
      if (one.string("name") == "default") chat_template = one.string("template");
    }
  }

  // What tokenizer_config.json leaves open. BOS is not taken from here: Qwen names one there that
  // its tokenizer never writes.
  void read_generation_config(const JsonView& config) {
    const auto id_of = [&](const char* key) -> std::optional<int64_t> {
      const auto entry = config.find(key);
      if (!entry) return std::nullopt;
      const int64_t id = entry->value().is_array() && !entry->value().empty()
                             ? entry->element(0).integer()
                             : entry->integer();
      return id >= 0 && id < added.vocab_size() ? std::optional(id) : std::nullopt;
    };
    if (!eos) eos = id_of("eos_token_id");
    if (!pad) pad = id_of("pad_token_id");
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(std::string_view json, std::string_view config, std::string where) {
  const nlohmann::json root = text::parse_json(json, where);
  auto impl = std::make_unique<Impl>(JsonView(root, where + ": "));
  if (!config.empty()) {
    const std::string config_where = "tokenizer_config.json";
    const nlohmann::json parsed = text::parse_json(config, config_where);
    impl->read_config(JsonView(parsed, config_where + ": "));
  }
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::from_gguf(const GgufFile& file) {
  const text::GgufTokenizer read = text::read_gguf_tokenizer(file);
  auto impl = std::make_unique<Impl>(JsonView(read.tokenizer, file.where() + ": tokenizer: "));
  impl->read_config(JsonView(read.config, file.where() + ": tokenizer: "));
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::from_directory(const std::filesystem::path& directory) {
  if (is_gguf_path(directory)) return from_gguf(GgufFile::open(directory));
  const auto path = directory / "tokenizer.json";
  const auto json = read_file(path);
  if (!json) {
    throw Error({.code = ExitCode::kInput,
                 .where = path.string(),
                 .what = "missing",
                 .expected = "the fast tokenizer's file, as Hugging Face writes it",
                 .remedy = "download the model with its tokenizer.json"});
  }
  Tokenizer tokenizer = from_json(*json, {}, path.string());
  const auto read = [&](const char* name, auto use) {
    const auto file = directory / name;
    if (const auto content = read_file(file)) {
      const nlohmann::json parsed = text::parse_json(*content, file.string());
      use(JsonView(parsed, file.string() + ": "));
    }
  };
  // Older companions of the config; theirs counts where it has no added_tokens_decoder.
  nlohmann::json map, added;
  read("special_tokens_map.json", [&](const JsonView& file) { map = file.value(); });
  read("added_tokens.json", [&](const JsonView& file) { added = file.value(); });
  const auto companion = [&](const nlohmann::json& file, const char* name) {
    return file.is_null() ? std::nullopt
                          : std::optional(JsonView(file, (directory / name).string() + ": "));
  };
  const nlohmann::json none = nlohmann::json::object();
  bool has_config = false;
  const auto use = [&](const JsonView& config) {
    has_config = true;
    tokenizer.impl_->read_config(config, companion(map, "special_tokens_map.json"),
                                 companion(added, "added_tokens.json"));
  };
  read("tokenizer_config.json", use);
  if (!has_config && (!map.is_null() || !added.is_null()))
    use(JsonView(none, (directory / "tokenizer_config.json").string() + ": "));
  read("generation_config.json",
       [&](const JsonView& config) { tokenizer.impl_->read_generation_config(config); });
  // A file of its own goes before the member of the config, as in transformers.
  if (const auto chat = read_file(directory / "chat_template.jinja"))
    tokenizer.impl_->chat_template = without_bom(*chat);
  return tokenizer;
}

namespace {

void check_text(std::string_view text) {
  if (const auto at = find_invalid_utf8(text)) {
    throw Error({.code = ExitCode::kInput,
                 .where = "text",
                 .what = cat("not valid UTF-8 at byte ", *at),
                 .remedy = "convert the text to UTF-8"});
  }
  if (text.size() >= kMaxTextBytes) {
    throw Error({.code = ExitCode::kInput,
                 .where = "text",
                 .what = "too long for one call",
                 .got = cat(text.size(), " bytes"),
                 .expected = cat("less than ", kMaxTextBytes)});
  }
}

}  // namespace

// Of a text that is cut into pieces, each with its place in the text as it came; `guess`: how many.
std::vector<text::EncodedToken> Tokenizer::Impl::tokens_of(const AlignedText& aligned,
                                                           size_t guess) const {
  std::vector<text::EncodedToken> tokens;
  std::vector<const Piece*> piece_of;  // of added tokens; nullptr for the model's own
  tokens.reserve(guess);
  piece_of.reserve(guess);
  std::vector<text::BpeModel::Symbol> symbols;
  for (const Piece& piece : aligned.pieces()) {
    if (piece.token >= 0) {
      const text::Span span = aligned.span(piece.begin, piece.end);
      tokens.push_back({piece.token, span.begin, span.end});
      piece_of.push_back(&piece);
      continue;
    }
    symbols.clear();
    model.tokenize(aligned.view(piece), symbols);
    size_t begin = piece.begin;
    for (const auto& symbol : symbols) {
      const text::Span span = aligned.span(begin, begin + symbol.bytes);
      tokens.push_back({symbol.id, span.begin, span.end});
      piece_of.push_back(nullptr);
      begin += symbol.bytes;
    }
  }
  post_processor.trim_offsets(tokens, [&](size_t i) -> std::string_view {
    return piece_of[i] != nullptr ? aligned.view(*piece_of[i]) : model.token(tokens[i].id);
  });
  return tokens;
}

Encoding Tokenizer::encode(std::string_view text, bool add_special) const {
  return encode_with(text, add_special, {});
}

Encoding Tokenizer::encode_literal(std::string_view text,
                                   const std::vector<std::pair<int64_t, int64_t>>& literal) const {
  return encode_with(text, false, literal);
}

Encoding Tokenizer::encode_with(std::string_view text, bool add_special,
                                const std::vector<std::pair<int64_t, int64_t>>& literal) const {
  check_text(text);
  AlignedText aligned(text);
  static const std::vector<std::pair<int64_t, int64_t>> kEverywhere = {{0, INT64_MAX}};
  impl_->added.extract(aligned, impl_->normalizer, impl_->split_special ? kEverywhere : literal);
  impl_->pre_tokenizer.apply(aligned);
  const std::vector<text::EncodedToken> tokens = impl_->tokens_of(aligned, text.size() / 3 + 8);

  Encoding encoding;
  encoding.ids.reserve(tokens.size() + 2);
  encoding.offsets.reserve(tokens.size() + 2);
  const auto add = [&](int64_t id, int64_t begin, int64_t end) {
    encoding.ids.push_back(id);
    encoding.offsets.emplace_back(begin, end);
  };
  if (add_special) {
    for (int64_t id : impl_->post_processor.before()) add(id, 0, 0);
  }
  for (const auto& token : tokens) add(token.id, token.begin, token.end);
  if (add_special) {
    for (int64_t id : impl_->post_processor.after()) add(id, 0, 0);
  }
  return encoding;
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (int64_t id : ids) {
    const std::string* written = impl_->written(id);
    if (written == nullptr || (skip_special && impl_->added.is_special_text(*written))) continue;
    tokens.push_back(*written);
  }
  return impl_->decoder.decode(std::move(tokens));
}

std::string Tokenizer::token_bytes(int64_t id) const {
  const std::string* written = impl_->written(id);
  return written == nullptr ? std::string() : impl_->decoder.token_bytes(*written);
}

int64_t Tokenizer::vocab_size() const { return impl_->added.vocab_size(); }

std::optional<int64_t> Tokenizer::token_to_id(std::string_view token) const {
  return impl_->find(token);
}

std::string Tokenizer::id_to_token(int64_t id) const {
  if (const AddedToken* token = impl_->added.by_id(id)) return token->content;
  const std::string* written = impl_->written(id);
  if (written == nullptr) {
    throw Error({.code = ExitCode::kInput,
                 .where = "tokenizer",
                 .what = "no such token",
                 .got = cat(id),
                 .expected = cat("an id below ", vocab_size())});
  }
  return *written;
}

bool Tokenizer::is_special(int64_t id) const {
  const AddedToken* token = impl_->added.by_id(id);
  return token != nullptr && token->special;
}

std::optional<int64_t> Tokenizer::bos_id() const { return impl_->bos; }
std::optional<int64_t> Tokenizer::eos_id() const { return impl_->eos; }
std::optional<int64_t> Tokenizer::pad_id() const { return impl_->pad; }
std::optional<int64_t> Tokenizer::unk_id() const { return impl_->unk; }
const std::string& Tokenizer::chat_template() const { return impl_->chat_template; }
const std::string& Tokenizer::fingerprint() const { return impl_->fingerprint; }

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special) {}

std::string StreamDecoder::push(int64_t id) {
  const Tokenizer::Impl& impl = *tokenizer_->impl_;
  const std::string* written = impl.written(id);
  if (written == nullptr || (skip_special_ && impl.added.is_special_text(*written))) return {};
  std::string bytes = impl.decoder.token_bytes(*written);
  if (first_) {
    bytes = impl.decoder.strip_start(std::move(bytes));
  } else if (impl.decoder.joins_with_space()) {
    bytes.insert(0, " ");
  }
  first_ = false;
  pending_ += bytes;

  std::string out;
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Step step = utf8_step(pending_, at);
    if (step.truncated) break;
    if (step.valid) {
      out.append(pending_, at, step.length);
    } else {
      out += "\xEF\xBF\xBD";
    }
    at += step.length;
  }
  pending_.erase(0, at);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out = to_valid_utf8(pending_);
  pending_.clear();
  first_ = true;
  return out;
}

}  // namespace kvlingua
