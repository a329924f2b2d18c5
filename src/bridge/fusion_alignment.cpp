#include "kvlingua/bridge/fusion_alignment.h"

#include <algorithm>
#include <optional>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua {
namespace {

// The reference pads with the end of text where a tokenizer names no padding.
std::optional<int64_t> pad_of(const Tokenizer& tokenizer) {
  const auto pad = tokenizer.pad_id();
  return pad ? pad : tokenizer.eos_id();
}

// A stretch of a rendered chat: a content, or the template's text between two of them.
struct Stretch {
  bool message = false;
  int64_t begin = 0, end = 0;  // tokens
};

struct Rendered {
  Encoding encoding;
  std::vector<Stretch> stretches;
};

[[noreturn]] void refuse(const std::string& what, const std::string& got) {
  throw Error({.code = ExitCode::kInput, .where = "chat alignment", .what = what, .got = got});
}

// Byte where `content` begins at or after `from`: the first place that a markup sign or the end
// follows, else the first at all.
size_t find_content(const std::string& text, const std::string& content, size_t from) {
  const size_t first = text.find(content, from);
  for (size_t at = first; at != std::string::npos; at = text.find(content, at + 1)) {
    const size_t end = at + content.size();
    if (end == text.size() || text[end] == '<') return at;
  }
  return first;
}

Rendered render(const std::vector<ChatMessage>& messages, const TextReader& reader) {
  const std::string text = render_chat(*reader.family, messages, {.add_generation_prompt = false});
  Rendered out{.encoding = reader.tokenizer->encode(text, false)};
  const auto& offsets = out.encoding.offsets;
  const auto count = static_cast<int64_t>(offsets.size());
  const auto template_until = [&](int64_t token) {
    const int64_t begin = out.stretches.empty() ? 0 : out.stretches.back().end;
    out.stretches.push_back({.message = false, .begin = begin, .end = std::max(begin, token)});
  };
  size_t from = 0;
  for (const ChatMessage& message : messages) {
    const size_t at = find_content(text, message.content, from);
    if (message.content.empty() || at == std::string::npos) {
      refuse("a message's content is not in the rendered template", printable(message.content, 40));
    }
    from = at + message.content.size();
    const int64_t begin = count_characters(text.substr(0, at));
    const int64_t end = begin + count_characters(message.content);
    int64_t first = 0, stop = 0;
    while (first < count && offsets[static_cast<size_t>(first)].second <= begin) ++first;
    stop = first;
    while (stop < count && offsets[static_cast<size_t>(stop)].first < end) ++stop;
    template_until(first);
    out.stretches.push_back({.message = true, .begin = out.stretches.back().end, .end = stop});
  }
  template_until(count);
  return out;
}

}  // namespace

TokenAligner::TokenAligner(const Tokenizer& target, const Tokenizer& source, AlignmentKind kind)
    : target_(&target), source_(&source), kind_(kind) {
  if (kind != AlignmentKind::kFirst && kind != AlignmentKind::kLongest) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "pair.alignment",
                 .what = "tokens cannot be aligned one by one this way",
                 .got = to_string(kind),
                 .expected = "first or longest"});
  }
}

int64_t TokenAligner::operator()(int64_t target_id) {
  const auto found = known_.find(target_id);
  if (found != known_.end()) return found->second;
  return known_[target_id] = find(target_id);
}

int64_t TokenAligner::special(int64_t id) const {
  const std::pair<std::optional<int64_t>, std::optional<int64_t>> parts[] = {
      {pad_of(*target_), pad_of(*source_)},
      {target_->eos_id(), source_->eos_id()},
      {target_->bos_id(), source_->bos_id()},
      {target_->unk_id(), source_->unk_id()}};
  for (const auto& [mine, theirs] : parts) {
    if (mine == id && theirs) return *theirs;
  }
  const auto same = source_->token_to_id(target_->id_to_token(id));
  return same ? *same : source_->unk_id().value_or(0);
}

int64_t TokenAligner::find(int64_t id) const {
  if (target_->is_special(id)) return special(id);
  const std::vector<int64_t> ids = source_->encode(target_->decode({id}), false).ids;
  if (ids.empty()) return source_->unk_id().value_or(0);
  size_t best = 0;
  if (kind_ == AlignmentKind::kLongest) {
    int64_t most = -1;
    for (size_t i = 0; i < ids.size(); ++i) {
      const int64_t length = count_characters(source_->decode({ids[i]}));
      if (length > most) {
        most = length;
        best = i;
      }
    }
  }
  return ids[best];
}

FusionSample aligned_chat_sample(const std::vector<ChatMessage>& messages, const TextReader& target,
                                 const TextReader& source, TokenAligner& aligner) {
  const Rendered mine = render(messages, target), theirs = render(messages, source);
  const int64_t target_pad = pad_of(*target.tokenizer).value_or(0),
                source_pad = pad_of(*source.tokenizer).value_or(0);
  FusionSample sample;
  sample.source_ids.resize(1);
  sample.source_real.resize(1);
  std::vector<bool> message;
  const auto push = [&](std::optional<int64_t> a, std::optional<int64_t> b, bool content) {
    sample.target_ids.push_back(a.value_or(target_pad));
    sample.source_ids[0].push_back(b.value_or(source_pad));
    sample.target_real.push_back(a.has_value());
    sample.source_real[0].push_back(b.has_value());
    message.push_back(content);
  };
  size_t boundary = 0;  // where the last message begins
  for (size_t s = 0; s < mine.stretches.size(); ++s) {
    const Stretch &a = mine.stretches[s], &b = theirs.stretches[s];
    if (a.message) boundary = sample.target_ids.size();
    const int64_t length = a.message ? a.end - a.begin : std::max(a.end - a.begin, b.end - b.begin);
    for (int64_t i = 0; i < length; ++i) {
      const auto at = [i](const Rendered& r, const Stretch& stretch) -> std::optional<int64_t> {
        if (stretch.begin + i >= stretch.end) return std::nullopt;
        return r.encoding.ids[static_cast<size_t>(stretch.begin + i)];
      };
      const auto id = at(mine, a);
      push(id, a.message ? std::optional(aligner(*id)) : at(theirs, b), a.message);
    }
  }
  const size_t total = sample.target_ids.size();
  sample.labels.assign(total, kIgnoredLabel);
  sample.selector.assign(total, -1);
  for (size_t i = 0; i < total; ++i) {
    if (i + 1 < boundary && message[i]) sample.selector[i] = 1;
    if (i >= boundary && sample.target_real[i]) sample.labels[i] = sample.target_ids[i];
  }
  if (std::count(sample.selector.begin(), sample.selector.end(), 1) == 0 || boundary >= total) {
    refuse("nothing to fuse or to learn", cat(messages.size(), " messages"));
  }
  return sample;
}

}  // namespace kvlingua
