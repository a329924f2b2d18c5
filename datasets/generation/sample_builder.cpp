#include "datasets/generation/sample_builder.h"

#include <algorithm>
#include <numeric>

#include "datasets/corpus/chat_turns.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/text/chat_template.h"

namespace kvlingua {
namespace {

// Byte offset of the code point numbered `n`.
size_t byte_of(const std::string& text, int64_t n) {
  size_t i = 0;
  for (; i < text.size(); ++i) {
    if (begins_character(text[i]) && n-- == 0) break;
  }
  return i;
}

// Tokens at the end of a cut text may not be those of the whole one.
constexpr int64_t kSpareTokens = 64;

std::string cut_at_character(const std::string& text, size_t end) {
  end = std::min(end, text.size());
  while (end > 0 && end < text.size() && !begins_character(text[end])) --end;
  return text.substr(0, end);
}

// `count` of [0, n), ascending.
std::vector<int32_t> choose(int64_t n, int64_t count, uint64_t seed) {
  std::vector<int32_t> all(static_cast<size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  if (count <= 0 || count >= n) return all;
  Random(seed).shuffle(all);
  all.resize(static_cast<size_t>(count));
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<int32_t> all_of(size_t n) { return choose(static_cast<int64_t>(n), 0, 0); }

using Ranges = std::vector<std::pair<int64_t, int64_t>>;

// Special tokens that begin within these ranges of characters.
int64_t count_special(const Tokenizer& tokenizer, const Encoding& tokens, const Ranges& within) {
  int64_t count = 0;
  size_t range = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t begin = tokens.offsets[i].first;
    while (range < within.size() && within[range].second <= begin) ++range;
    if (range < within.size() && begin >= within[range].first &&
        tokenizer.is_special(tokens.ids[i]))
      ++count;
  }
  return count;
}

Encoding encode_turns(const Tokenizer& tokenizer, const RenderedTurns& turns, bool split) {
  return split ? tokenizer.encode_literal(turns.text, turns.contents)
               : tokenizer.encode(turns.text, false);
}

}  // namespace

int64_t bytes_worth_reading(int64_t tokens) { return 64 * tokens + 4096; }

bool renders_turns(const DataOptions& data) {
  return data.chat && (data.kind == "chat" || data.kind == "sharegpt");
}

SampleBuilder::SampleBuilder(TextReader source, TextReader target, const DataOptions& data,
                             AlignmentKind alignment, uint64_t seed)
    : source_(std::move(source)),
      target_(std::move(target)),
      data_(data),
      alignment_(alignment),
      seed_(seed) {}

Encoding SampleBuilder::encode_user(const Tokenizer& tokenizer, std::string_view text) const {
  if (!data_.split_control_tokens) return tokenizer.encode(text, false);
  return tokenizer.encode_literal(text, {{0, INT64_MAX}});
}

void SampleBuilder::cut(std::string& text, Encoding& target) const {
  const auto limit = static_cast<size_t>(data_.max_length);
  // A cut may tokenise differently at its end: again until it fits. Every round is shorter by a
  // character at least.
  while (target.ids.size() > limit) {
    size_t end = std::min(byte_of(text, target.offsets[limit].first), text.size() - 1);
    while (end > 0 && !begins_character(text[end])) --end;
    text.resize(end);
    target = encode_user(*target_.tokenizer, text);
  }
}

void SampleBuilder::check_length(const TextReader& reader, size_t tokens, int64_t number) const {
  const auto total = static_cast<int64_t>(reader.before.size() + tokens);
  if (total <= reader.max_positions) return;
  throw Error({.code = ExitCode::kInput,
               .where = cat("document ", number),
               .what = cat("longer than ", reader.name, " allows"),
               .got = cat(total, " tokens with the chat prefix"),
               .expected = cat("at most ", reader.max_positions),
               .remedy = "lower data.max_length"});
}

Alignment SampleBuilder::aligned(const Encoding& source, const Encoding& target,
                                 int64_t number) const {
  try {
    return align(source, target, alignment_);
  } catch (const Error& error) {
    if (alignment_ != AlignmentKind::kIdentity) throw;
    throw Error({.code = ExitCode::kInput,
                 .where = cat("document ", number),
                 .what = "pair.alignment is identity, but the two tokenizers read it differently",
                 .got = error.parts().got.empty() ? error.parts().what : error.parts().got,
                 .expected = error.parts().expected,
                 .remedy = "pair.alignment: last_char"});
  }
}

// The document's text, the same for both models. None: too short.
std::optional<SampleBuilder::Read> SampleBuilder::read_text(const Document& document,
                                                            BuiltSample& sample) const {
  sample.text = document.text;
  // Only the beginning is kept, so only that is tokenised; more of it where tokens are long.
  for (int64_t bytes = bytes_worth_reading(data_.max_length);
       bytes < static_cast<int64_t>(sample.text.size()); bytes *= 4) {
    const std::string begin = cut_at_character(document.text, static_cast<size_t>(bytes));
    if (static_cast<int64_t>(encode_user(*target_.tokenizer, begin).size()) <=
        data_.max_length + kSpareTokens)
      continue;
    sample.text = begin;
  }
  Encoding target = encode_user(*target_.tokenizer, sample.text);
  cut(sample.text, target);
  if (static_cast<int64_t>(target.size()) < data_.min_length) return std::nullopt;
  sample.control_tokens = count_special(*target_.tokenizer, target, {{0, INT64_MAX}});
  return Read{encode_user(*source_.tokenizer, sample.text), std::move(target), 0};
}

// The conversation as each model's template writes it; the last turns are left out where it is too
// long, and where one turn alone is, its end is.
std::optional<SampleBuilder::Read> SampleBuilder::read_turns(const Document& document,
                                                             int64_t number,
                                                             BuiltSample& sample) const {
  std::vector<ChatMessage> messages = document.messages;
  // What is longer than any such number of tokens need not be tokenised to be left out.
  const auto most = static_cast<size_t>(bytes_worth_reading(data_.max_length));
  size_t bytes = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    bytes += messages[i].content.size();
    if (bytes <= most) continue;
    messages.resize(std::max<size_t>(i, 1));
    messages.back().content = cut_at_character(messages.back().content, most);
    break;
  }
  const auto render = [&](const TextReader& reader) {
    try {
      return render_turns(*reader.family, messages, reader.system, reader.chat);
    } catch (const Error& error) {
      ErrorParts parts = error.parts();
      parts.where = cat("document ", number, ", ", parts.where);
      throw Error(parts);
    }
  };
  while (true) {
    const RenderedTurns target = render(target_);
    Encoding read = encode_turns(*target_.tokenizer, target, data_.split_control_tokens);
    if (static_cast<int64_t>(read.size()) > data_.max_length) {
      std::string& last = messages.back().content;
      if (messages.size() > 1) {
        messages.pop_back();
      } else if (last.size() < 2) {
        return std::nullopt;  // the markup alone is too long
      } else {
        const size_t share = last.size() * static_cast<size_t>(data_.max_length) / read.size();
        size_t end = std::min(share, last.size() - 1);
        while (end > 0 && !begins_character(last[end])) --end;
        last.resize(end);
      }
      continue;
    }
    if (static_cast<int64_t>(read.size()) < data_.min_length) return std::nullopt;
    const RenderedTurns source = render(source_);
    sample.text = target.text;
    sample.control_tokens = count_special(*target_.tokenizer, read, target.contents);
    return Read{
        in_coordinates_of(target, source,
                          encode_turns(*source_.tokenizer, source, data_.split_control_tokens)),
        std::move(read), target.first_content()};
  }
}

std::optional<BuiltSample> SampleBuilder::build(const Document& document, int64_t number,
                                                bool split_by_construction) const {
  if (document.text.empty()) return std::nullopt;
  if (!split_by_construction && !document.settled && data_.split != "all") {
    if ((split_of(document.group) == Split::kHeldOut) != (data_.split == "heldout"))
      return std::nullopt;
  }
  BuiltSample sample;
  const bool turns = source_.every_turn && target_.every_turn && !document.messages.empty();
  const std::optional<Read> read =
      turns ? read_turns(document, number, sample) : read_text(document, sample);
  if (!read || read->source.size() == 0 || read->target.size() == 0) return std::nullopt;
  check_length(source_, read->source.size(), number);
  check_length(target_, read->target.size(), number);

  const uint64_t group = hash_name(document.group);
  sample.validation =
      static_cast<double>(mix(mix(seed_, hash_name("validation")), group) >> 11) * 0x1.0p-53 <
      data_.validation;
  const Alignment alignment = aligned(read->source, read->target, number);
  sample.alignment.assign(alignment.source_index.begin(), alignment.source_index.end());
  sample.alignment_covered = alignment.covered;
  choose_rows(*read, mix(mix(seed_, static_cast<uint64_t>(number)), group), sample);
  sample.source.ids = read->source.ids;
  sample.target.ids = read->target.ids;
  return sample;
}

void SampleBuilder::choose_rows(const Read& read, uint64_t seed, BuiltSample& sample) const {
  int64_t first = 0;
  const auto tokens = static_cast<int64_t>(read.target.size());
  while (first < tokens &&
         read.target.offsets[static_cast<size_t>(first)].first < read.first_content)
    ++first;
  sample.target.row_token = choose(tokens - first, data_.tokens_per_sample, seed);
  for (int32_t& token : sample.target.row_token) token += static_cast<int32_t>(first);
  if (data_.tokens_per_sample == 0 && first == 0) {
    sample.source.row_token = all_of(read.source.size());
    sample.target_source_row = sample.alignment;
    return;
  }
  auto& rows = sample.source.row_token;
  for (int32_t token : sample.target.row_token)
    rows.push_back(sample.alignment[static_cast<size_t>(token)]);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  for (int32_t token : sample.target.row_token) {
    const auto at =
        std::lower_bound(rows.begin(), rows.end(), sample.alignment[static_cast<size_t>(token)]);
    sample.target_source_row.push_back(static_cast<int32_t>(at - rows.begin()));
  }
}

}  // namespace kvlingua
