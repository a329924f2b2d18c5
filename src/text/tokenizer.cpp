#include "kvlingua/text/tokenizer.h"

#include <algorithm>
#include <fstream>

#include "added_tokens.h"
#include "aligned_text.h"
#include "bpe.h"
#include "json_view.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/io/sha256.h"
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
  std::ifstream in(path, std::ios::binary);
  std::string content(size, '\0');
  if (!in.read(content.data(), static_cast<std::streamsize>(size))) {
    throw Error({.code = ExitCode::kInput, .where = path.string(), .what = "cannot be read"});
  }
  return content;
}

// truncation and padding would change what encode() gives.
void refuse_limits(const JsonView& json) {
  for (const char* key : {"truncation", "padding"}) {
    if (const auto limit = json.find(key)) limit->unsupported(key, "null");
  }
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

  explicit Impl(const JsonView& json)
      : model(json.at("model")),
        normalizer(text::Normalizer::read(json.find("normalizer"))),
        added(json.find("added_tokens"), model, normalizer),
        pre_tokenizer(text::PreTokenizer::read(json.find("pre_tokenizer"))),
        post_processor(text::PostProcessor::read(json.find("post_processor"), added.vocab_size())),
        decoder(text::Decoder::read(json.find("decoder"))) {
    json.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
               "post_processor", "decoder", "model"});
    refuse_limits(json);
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
  std::optional<int64_t> special_of(const JsonView& config, const char* key) const {
    const auto entry = config.find(key);
    if (!entry) return std::nullopt;
    const std::string& content =
        entry->value().is_object() ? entry->string("content") : entry->string();
    const auto id = find(content);
    if (!id) {
      throw Error({.code = ExitCode::kInput,
                   .where = entry->where(),
                   .what = "not in the vocabulary",
                   .got = printable(content, 40)});
    }
    return id;
  }

  void read_config(const JsonView& config) {
    bos = special_of(config, "bos_token");
    eos = special_of(config, "eos_token");
    pad = special_of(config, "pad_token");
    if (const auto id = special_of(config, "unk_token")) unk = id;
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

Tokenizer Tokenizer::from_directory(const std::filesystem::path& directory) {
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
  read("tokenizer_config.json",
       [&](const JsonView& config) { tokenizer.impl_->read_config(config); });
  read("generation_config.json",
       [&](const JsonView& config) { tokenizer.impl_->read_generation_config(config); });
  // A file of its own goes before the member of the config, as in transformers.
  if (auto chat = read_file(directory / "chat_template.jinja"))
    tokenizer.impl_->chat_template = std::move(*chat);
  return tokenizer;
}

Encoding Tokenizer::encode(std::string_view text, bool add_special) const {
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
  AlignedText aligned(text);
  impl_->added.extract(aligned, impl_->normalizer);
  impl_->pre_tokenizer.apply(aligned);

  std::vector<text::EncodedToken> tokens;
  std::vector<const Piece*> piece_of;  // of added tokens; nullptr for the model's own
  tokens.reserve(text.size() / 3 + 8);
  piece_of.reserve(text.size() / 3 + 8);
  std::vector<text::BpeModel::Symbol> symbols;
  for (const Piece& piece : aligned.pieces()) {
    if (piece.token >= 0) {
      const text::Span span = aligned.span(piece.begin, piece.end);
      tokens.push_back({piece.token, span.begin, span.end});
      piece_of.push_back(&piece);
      continue;
    }
    symbols.clear();
    impl_->model.tokenize(aligned.view(piece), symbols);
    size_t begin = piece.begin;
    for (const auto& symbol : symbols) {
      const text::Span span = aligned.span(begin, begin + symbol.bytes);
      tokens.push_back({symbol.id, span.begin, span.end});
      piece_of.push_back(nullptr);
      begin += symbol.bytes;
    }
  }
  impl_->post_processor.trim_offsets(tokens, [&](size_t i) -> std::string_view {
    return piece_of[i] != nullptr ? aligned.view(*piece_of[i]) : impl_->model.token(tokens[i].id);
  });

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
