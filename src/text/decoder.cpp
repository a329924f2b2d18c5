// From tokens back to text (steps.h), as tokenizer.json's `decoder` says.
#include <algorithm>

#include "kvlingua/base/utf8.h"
#include "steps.h"

namespace kvlingua::text {
namespace {

constexpr int kMaxSequenceDepth = 8;

bool joins(const DecoderStep& step) {
  return std::holds_alternative<DecodeFuse>(step) || std::holds_alternative<DecodeByteLevel>(step);
}

void read_step(const JsonView& json, std::vector<DecoderStep>& steps, int depth) {
  const std::string& type = json.string("type");
  const bool joined = std::any_of(steps.begin(), steps.end(), joins);
  if (joined && (type == "ByteLevel" || type == "Replace" || type == "ByteFallback")) {
    json.unsupported(
        cat(type, " after the tokens were joined"));  // could not be decoded token by token
  }
  if (type == "Sequence") {
    json.only({"type", "decoders"});
    if (depth >= kMaxSequenceDepth) json.unsupported("sequences nested this deep");
    const JsonView list = json.at("decoders");
    for (size_t i = 0; i < list.array_size(); ++i) read_step(list.element(i), steps, depth + 1);
  } else if (type == "ByteLevel") {
    json.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    steps.emplace_back(DecodeByteLevel{});
  } else if (type == "Replace") {
    json.only({"type", "pattern", "content"});
    steps.emplace_back(DecodeReplace{read_pattern(json.at("pattern")), json.string("content")});
  } else if (type == "ByteFallback") {
    json.only({"type"});
    steps.emplace_back(DecodeByteFallback{});
  } else if (type == "Fuse") {
    json.only({"type"});
    steps.emplace_back(DecodeFuse{});
  } else if (type == "Strip") {
    json.only({"type", "content", "start", "stop"});
    const std::string& content = json.string("content");
    if (content.empty() || utf8_length(content[0]) != content.size()) {
      json.corrupt("content must be one character", printable(content, 40));
    }
    const int64_t start = json.at("start").integer();
    if (start < 0) json.corrupt("negative", cat(start));
    if (start > 1) json.unsupported(cat("Strip of ", start, " characters"), "start: 0 or 1");
    if (json.at("stop").integer() != 0) json.unsupported("Strip at the end of the text", "stop: 0");
    size_t at = 0;
    steps.emplace_back(DecodeStrip{next_code_point(content, at), static_cast<size_t>(start)});
  } else {
    json.unsupported(cat("decoder ", printable(type, 40)),
                     "ByteLevel, Replace, ByteFallback, Fuse, Strip or Sequence");
  }
}

std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  int value = 0;
  for (char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<char>(value);
}

std::string replaced(const DecodeReplace& step, std::string_view token) {
  std::vector<Range> matches;
  step.pattern.find_all(token, matches);
  std::string out;
  size_t done = 0;
  for (const auto& [begin, end] : matches) {
    out += token.substr(done, begin - done);
    out += step.content;
    done = end;
  }
  return out += token.substr(done);
}

std::string stripped(const DecodeStrip& step, const std::string& token) {
  size_t at = 0;
  for (size_t i = 0; i < step.start && at < token.size(); ++i) {
    size_t next = at;
    if (next_code_point(token, next) != step.content) break;
    at = next;
  }
  return token.substr(at);
}

std::string bytes_of(std::string_view token) {
  return byte_level_bytes(token).value_or(std::string(token));
}

using Tokens = std::vector<std::string>;

void apply(const DecodeByteLevel&, Tokens& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) bytes += bytes_of(token);
  tokens = {to_valid_utf8(bytes)};
}

void apply(const DecodeReplace& step, Tokens& tokens) {
  for (std::string& token : tokens) token = replaced(step, token);
}

// Byte tokens that follow each other are one string, or, when that is not valid UTF-8, one U+FFFD
// each.
void apply(const DecodeByteFallback&, Tokens& tokens) {
  Tokens out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (find_invalid_utf8(run)) {
      for (size_t i = 0; i < run.size(); ++i) out.emplace_back("\xEF\xBF\xBD");
    } else {
      out.push_back(run);
    }
    run.clear();
  };
  for (std::string& token : tokens) {
    if (const auto byte = fallback_byte(token)) {
      run += *byte;
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  tokens = std::move(out);
}

void apply(const DecodeFuse&, Tokens& tokens) {
  std::string joined;
  for (const std::string& token : tokens) joined += token;
  tokens = {joined};
}

void apply(const DecodeStrip& step, Tokens& tokens) {
  for (std::string& token : tokens) token = stripped(step, token);
}

}  // namespace

Decoder Decoder::read(const std::optional<JsonView>& json) {
  Decoder decoder;
  decoder.present_ = json.has_value();
  if (json) read_step(*json, decoder.steps_, 0);
  return decoder;
}

std::string Decoder::decode(std::vector<std::string> tokens) const {
  for (const DecoderStep& step : steps_) {
    std::visit([&](const auto& one) { apply(one, tokens); }, step);
  }
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && !present_) out += ' ';
    out += tokens[i];
  }
  return out;
}

std::string Decoder::token_bytes(std::string_view token) const {
  std::string bytes(token);
  for (const DecoderStep& step : steps_) {
    // What follows a join is about the whole text.
    if (std::holds_alternative<DecodeFuse>(step)) break;
    if (std::holds_alternative<DecodeByteLevel>(step)) return bytes_of(bytes);
    if (std::holds_alternative<DecodeByteFallback>(step)) {
      if (const auto byte = fallback_byte(bytes)) return {*byte};
    } else if (const auto* change = std::get_if<DecodeReplace>(&step)) {
      bytes = replaced(*change, bytes);
    } else if (const auto* strip = std::get_if<DecodeStrip>(&step)) {
      bytes = stripped(*strip, bytes);
    }
  }
  return bytes;
}

std::string Decoder::strip_start(std::string bytes) const {
  bool fused = false;
  for (const DecoderStep& step : steps_) {
    fused = fused || joins(step);
    const auto* strip = std::get_if<DecodeStrip>(&step);
    if (fused && strip != nullptr && !find_invalid_utf8(bytes)) bytes = stripped(*strip, bytes);
  }
  return bytes;
}

}  // namespace kvlingua::text
