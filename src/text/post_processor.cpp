// What is put around a text's tokens (steps.h), as tokenizer.json's `post_processor` says.
#include <algorithm>

#include "kvlingua/base/utf8.h"
#include "steps.h"

namespace kvlingua::text {
namespace {

constexpr int kMaxSequenceDepth = 8;
constexpr char32_t kByteLevelSpace = 0x120;  // how a byte-level token writes a space

// A piece of a template: {"SpecialToken": {"id", "type_id"}} or {"Sequence": {"id", "type_id"}}, or
// as one string.
struct TemplatePiece {
  bool is_sequence = false;
  std::string id;
};

TemplatePiece read_piece(const JsonView& json) {
  json.only({"SpecialToken", "Sequence"});
  const auto sequence = json.find("Sequence");
  const JsonView piece = sequence ? *sequence : json.at("SpecialToken");
  piece.only({"id", "type_id"});
  return {sequence.has_value(), piece.string("id")};
}

// How many characters at the front (or back) of a token count as spaces.
size_t count_spaces(std::string_view token, bool from_back) {
  size_t leading = 0, run = 0;
  bool only_spaces = true;
  for (size_t at = 0; at < token.size();) {
    const char32_t c = next_code_point(token, at);
    if (c == kByteLevelSpace || is_white_space(c)) {
      ++run;
      if (only_spaces) ++leading;
    } else {
      only_spaces = false;
      run = 0;
    }
  }
  return from_back ? run : leading;
}

}  // namespace

PostProcessor PostProcessor::read(const std::optional<JsonView>& json, int64_t vocab_size) {
  PostProcessor processor;
  if (json) processor.add(*json, vocab_size, 0);
  return processor;
}

void PostProcessor::add(const JsonView& json, int64_t vocab_size, int depth) {
  const std::string& type = json.string("type");
  if (type == "Sequence") {
    json.only({"type", "processors"});
    if (depth >= kMaxSequenceDepth) json.unsupported("sequences nested this deep");
    const JsonView list = json.at("processors");
    for (size_t i = 0; i < list.array_size(); ++i) add(list.element(i), vocab_size, depth + 1);
  } else if (type == "ByteLevel") {
    json.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    if (json.boolean("trim_offsets")) trims_.push_back(json.boolean("add_prefix_space"));
  } else if (type == "TemplateProcessing") {
    add_template(json, vocab_size);
  } else {
    json.unsupported(cat("post-processor ", printable(type, 40)),
                     "ByteLevel, TemplateProcessing or Sequence");
  }
}

void PostProcessor::add_template(const JsonView& json, int64_t vocab_size) {
  json.only({"type", "single", "pair", "special_tokens"});
  if (has_template_) json.unsupported("a second TemplateProcessing");
  has_template_ = true;
  const JsonView single = json.at("single");
  bool seen_text = false;
  for (size_t i = 0; i < single.array_size(); ++i) {
    const JsonView place = single.element(i);
    const TemplatePiece piece = read_piece(place);
    if (piece.is_sequence) {
      if (piece.id != "A" || seen_text)
        place.unsupported("a template for one text that uses it twice, or a second text");
      seen_text = true;
      continue;
    }
    const JsonView tokens = json.at("special_tokens");
    const JsonView token = tokens.at(piece.id.c_str());
    token.only({"id", "ids", "tokens"});
    const JsonView ids = token.at("ids");
    for (size_t k = 0; k < ids.array_size(); ++k) {
      const int64_t id = ids.element(k).integer();
      if (id < 0 || id >= vocab_size) {
        ids.element(k).corrupt("no such token", cat(id), cat("an id below ", vocab_size));
      }
      (seen_text ? after_ : before_).push_back(id);
    }
  }
  if (!seen_text) single.unsupported("a template without its text");
}

void PostProcessor::trim_offsets(std::vector<EncodedToken>& tokens,
                                 const std::function<std::string_view(size_t)>& token_text) const {
  for (const bool add_prefix_space : trims_) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::string_view written = token_text(i);
      auto& [id, begin, end] = tokens[i];
      auto leading = static_cast<int64_t>(count_spaces(written, false));
      const auto trailing = static_cast<int64_t>(count_spaces(written, true));
      if (leading > 0) {
        // The one space that ByteLevel itself put in front is not in the text.
        if ((i == 0 || begin == 0) && add_prefix_space && leading == 1) leading = 0;
        begin = std::min(begin + leading, end);
      }
      if (trailing > 0 && end >= trailing) end = std::max(end - trailing, begin);
    }
  }
}

}  // namespace kvlingua::text
