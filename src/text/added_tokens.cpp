#include "added_tokens.h"

#include <algorithm>

#include "kvlingua/base/utf8.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua::text {
namespace {

constexpr size_t kMaxTokenBytes = 1024;
constexpr size_t kMaxAddedTokens = 1U << 20;

char32_t first_code_point(std::string_view text) {
  size_t at = 0;
  return next_code_point(text, at);
}

size_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (!begins_character(text[at])) --at;
  return at;
}

AddedToken read_token(const JsonView& json) {
  json.only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  AddedToken token;
  token.id = json.at("id").integer();
  token.content = json.string("content");
  token.single_word = json.boolean("single_word", false);
  token.lstrip = json.boolean("lstrip", false);
  token.rstrip = json.boolean("rstrip", false);
  token.special = json.boolean("special", false);
  token.normalized = json.boolean("normalized", !token.special);
  if (token.content.empty()) json.corrupt("an added token without content");
  if (token.content.size() > kMaxTokenBytes)
    json.corrupt("too long", cat(token.content.size(), " bytes"));
  return token;
}

}  // namespace

uint32_t WordFinder::child(uint32_t node, unsigned char byte) const {
  const auto& children = nodes_[node].children;
  const auto it = std::lower_bound(children.begin(), children.end(),
                                   std::pair<unsigned char, uint32_t>(byte, 0));
  return it != children.end() && it->first == byte ? it->second : 0;
}

void WordFinder::add(std::string_view word, int32_t value) {
  starts_[static_cast<unsigned char>(word[0])] = true;
  uint32_t node = 0;
  for (char c : word) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      auto& children = nodes_[node].children;
      const std::pair<unsigned char, uint32_t> entry(byte, next);
      children.insert(std::lower_bound(children.begin(), children.end(), entry), entry);
    }
    node = next;
  }
  nodes_[node].value = value;
}

bool WordFinder::find(std::string_view text, size_t from, Found& found) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!starts_[static_cast<unsigned char>(text[begin])]) continue;
    bool any = false;
    uint32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      node = child(node, static_cast<unsigned char>(text[at]));
      if (node == 0) break;
      if (nodes_[node].value >= 0) {
        any = true;
        found = {begin, at + 1, nodes_[node].value};
      }
    }
    if (any) return true;
  }
  return false;
}

AddedTokens::AddedTokens(const std::optional<JsonView>& json, const BpeModel& model,
                         const Normalizer& normalizer)
    : vocab_size_(model.size()) {
  if (!json) return;
  const size_t count = json->array_size();
  if (count > kMaxAddedTokens) json->corrupt("too many added tokens", cat(count));
  for (size_t i = 0; i < count; ++i) {
    const JsonView place = json->element(i);
    AddedToken token = read_token(place);
    if (by_content(token.content) != nullptr)
      place.corrupt("added twice", printable(token.content, 40));
    const auto known = model.vocab().find(token.content);
    const int64_t expected = known != model.vocab().end() ? known->second : vocab_size_;
    if (token.id != expected) {
      place.corrupt(cat("id of ", printable(token.content, 40)), cat(token.id),
                    cat(expected, known != model.vocab().end() ? " as in the vocabulary"
                                                               : ", the next free id"));
    }
    vocab_size_ = std::max(vocab_size_, token.id + 1);
    token.normalized_content = token.normalized ? normalizer.apply(token.content) : token.content;
    if (token.normalized_content.empty())
      place.unsupported("an added token that normalises to nothing");
    WordFinder& finder = token.normalized ? normalized_ : plain_;
    WordFinder::Found found{};
    if (finder.find(token.normalized_content, 0, found) && found.begin == 0 &&
        found.end == token.normalized_content.size()) {
      place.unsupported(cat("added token ", printable(token.content, 40),
                            " looks like another one once normalised"));
    }
    finder.add(token.normalized_content, static_cast<int32_t>(i));
    if (token.special) special_.insert(token.content);
    index_of_id_.emplace(token.id, i);
    index_of_content_.emplace(token.content, i);
    tokens_.push_back(std::move(token));
  }
}

int64_t AddedTokens::put(AddedToken token, const BpeModel& model, const Normalizer& normalizer,
                         const std::string& where) {
  token.normalized_content = token.normalized ? normalizer.apply(token.content) : token.content;
  const auto there = index_of_content_.find(token.content);
  if (there != index_of_content_.end()) {
    token.id = tokens_[there->second].id;
    tokens_[there->second] = std::move(token);
    find_again(where);
    return tokens_[there->second].id;
  }
  if (tokens_.size() >= kMaxAddedTokens)
    throw Error({.code = ExitCode::kCorrupt, .where = where, .what = "too many added tokens"});
  const auto known = model.vocab().find(token.content);
  token.id = known != model.vocab().end() ? known->second : vocab_size_;
  vocab_size_ = std::max(vocab_size_, token.id + 1);
  const int64_t id = token.id;
  index_of_id_.emplace(id, tokens_.size());
  index_of_content_.emplace(token.content, tokens_.size());
  tokens_.push_back(std::move(token));
  find_again(where);
  return id;
}

// The finders, made anew of all tokens.
void AddedTokens::find_again(const std::string& where) {
  plain_ = normalized_ = WordFinder();
  special_.clear();
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    WordFinder& finder = token.normalized ? normalized_ : plain_;
    WordFinder::Found found{};
    const bool twice = !token.normalized_content.empty() &&
                       finder.find(token.normalized_content, 0, found) && found.begin == 0 &&
                       found.end == token.normalized_content.size();
    if (token.normalized_content.empty() || twice) {
      throw Error({.code = ExitCode::kInput,
                   .where = where,
                   .what = cat("not supported: added token ", printable(token.content, 40),
                               twice ? " looks like another one once normalised"
                                     : " normalises to nothing")});
    }
    finder.add(token.normalized_content, static_cast<int32_t>(i));
    if (token.special) special_.insert(token.content);
  }
}

const AddedToken* AddedTokens::by_id(int64_t id) const {
  const auto it = index_of_id_.find(id);
  return it == index_of_id_.end() ? nullptr : &tokens_[it->second];
}

const AddedToken* AddedTokens::by_content(std::string_view content) const {
  const auto it = index_of_content_.find(content);
  return it == index_of_content_.end() ? nullptr : &tokens_[it->second];
}

void AddedTokens::extract(AlignedText& text, const Normalizer& normalizer,
                          const Ranges& literal) const {
  if (!plain_.empty()) split(plain_, text, literal);
  normalizer.apply(text);
  if (!normalized_.empty()) split(normalized_, text, literal);
}

void AddedTokens::split(const WordFinder& finder, AlignedText& text, const Ranges& literal) const {
  const auto is_literal = [&](size_t begin, size_t end) {
    const Span span = text.span(begin, end);
    return std::any_of(literal.begin(), literal.end(), [&](const auto& range) {
      return span.begin < range.second && span.end > range.first;
    });
  };
  text.split([&](std::string_view piece, std::vector<Piece>& out) {
    const size_t place = text.offset_of(piece);
    size_t done = 0;
    WordFinder::Found found{};
    for (size_t from = 0; finder.find(piece, from, found); from = found.end) {
      const AddedToken& token = tokens_[static_cast<size_t>(found.value)];
      size_t begin = found.begin, end = found.end;
      if (token.special && !literal.empty() && is_literal(place + begin, place + end)) continue;
      if (token.single_word) {
        const bool left =
            begin > 0 &&
            is_word(first_code_point(piece.substr(last_character(piece.substr(0, begin)))));
        const bool right = end < piece.size() && is_word(first_code_point(piece.substr(end)));
        if (left || right) continue;
      }
      if (token.lstrip) {
        while (begin > 0) {
          const size_t before = last_character(piece.substr(0, begin));
          if (!is_white_space(first_code_point(piece.substr(before)))) break;
          begin = before;
        }
        begin = std::max(begin, done);  // those spaces may already belong to the token before
      }
      if (token.rstrip) {
        while (end < piece.size()) {
          size_t next = end;
          if (!is_white_space(next_code_point(piece, next))) break;
          end = next;
        }
      }
      if (done < begin) out.push_back({done, begin, -1});
      out.push_back({begin, end, token.id});
      done = end;
    }
    if (done != piece.size()) out.push_back({done, piece.size(), -1});
  });
}

std::string AddedTokens::digest() const {
  Sha256 hash;
  for (const AddedToken& token : tokens_) {
    hash.update(cat(token.id, " ", token.content.size(), ":")).update(token.content);
    hash.update(cat(token.single_word, token.lstrip, token.rstrip, token.normalized));
  }
  return hash.hex();
}

}  // namespace kvlingua::text
