#include "trainers/c2c/fusion_items.h"

#include <algorithm>
#include <optional>

#include "datasets/corpus/corpus.h"
#include "datasets/corpus/families.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/random.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua {
namespace {

std::vector<int32_t> narrowed(const std::vector<int64_t>& ids) { return {ids.begin(), ids.end()}; }

// As the reference prepares OpenHermes: no system turns, the user's text without white space around
// it. Trailing turns that are not the assistant's teach nothing.
std::vector<ChatMessage> prepared(std::vector<ChatMessage> messages, bool share) {
  if (share) {
    std::erase_if(messages, [](const ChatMessage& m) { return m.role == "system"; });
    for (ChatMessage& m : messages) {
      if (m.role == "user") m.content = trimmed(m.content);
    }
  }
  while (!messages.empty() && messages.back().role != "assistant") messages.pop_back();
  return messages;
}

// The built-in families as conversations of one turn.
std::vector<std::vector<ChatMessage>> family_chats(const Recipe& recipe, uint64_t seed) {
  std::vector<std::vector<ChatMessage>> chats;
  const SyntheticOptions& options = recipe.data.synthetic;
  const auto families = static_cast<int64_t>(family_names().size());
  for (const std::string& family : family_names()) {
    FamilyRequest request{
        .family = family,
        .split = recipe.data.split == "heldout" ? Split::kHeldOut : Split::kTrain,
        .n = std::max<int64_t>(1, options.documents / families),
        .seed = mix(seed, static_cast<uint64_t>(options.seed)) >> 1,
        .style = options.style == "english" ? FamilyStyle::kEnglish : FamilyStyle::kNano};
    for (const FamilyItem& item : make_family(request)) {
      chats.push_back({{"user", item.context + "\n" + item.prompt}, {"assistant", item.answer}});
    }
  }
  Random(mix(seed, hash_name("fusion items"))).shuffle(chats);
  return chats;
}

class Builder {
 public:
  Builder(const Recipe& recipe, const TextReader& target, const TextReader& source,
          AlignmentKind alignment, int64_t source_vocab)
      : target_(target),
        source_(source),
        max_length_(recipe.train.c2c.max_length),
        max_words_(recipe.data.max_length),
        min_length_(recipe.data.min_length),
        source_vocab_(source_vocab) {
    thinking_ = recipe.pair.target.thinking;
    if (alignment != AlignmentKind::kIdentity)
      aligner_.emplace(*target.tokenizer, *source.tokenizer, alignment);
  }

  std::optional<FusionItem> build(const std::vector<ChatMessage>& messages) {
    if (messages.size() < 2) return std::nullopt;
    return aligner_ ? aligned(messages) : plain(messages);
  }

 private:
  std::optional<FusionItem> plain(const std::vector<ChatMessage>& messages) const {
    const std::vector<ChatMessage> before(messages.begin(), messages.end() - 1);
    const auto ids = [&](const std::vector<ChatMessage>& turns, bool open) {
      return target_.tokenizer
          ->encode(render_chat(*target_.family, turns,
                               {.add_generation_prompt = open, .enable_thinking = thinking_}),
                   false)
          .ids;
    };
    const std::vector<int64_t> prompt = ids(before, true), full = ids(messages, false);
    FusionItem item{.target_ids = narrowed(full), .prompt = static_cast<int32_t>(prompt.size())};
    if (!fits(item, item.prompt)) return std::nullopt;
    const int64_t highest = *std::max_element(full.begin(), full.end());
    if (highest >= source_vocab_) {
      throw Error({.code = ExitCode::kInput,
                   .where = "pair.alignment",
                   .what = "the source has no token of the target's number, so it cannot read them",
                   .got = cat("id ", highest),
                   .expected = cat("below ", source_vocab_),
                   .remedy = "pair.alignment: longest"});
    }
    return item;
  }

  std::optional<FusionItem> aligned(const std::vector<ChatMessage>& messages) {
    FusionSample sample;
    try {
      sample = aligned_chat_sample(messages, target_, source_, *aligner_);
    } catch (const Error& error) {
      if (error.code() != ExitCode::kInput) throw;
      return std::nullopt;  // an empty content, or one that the template changes
    }
    const auto answer = std::find_if(sample.labels.begin(), sample.labels.end(),
                                     [](int64_t label) { return label != kIgnoredLabel; });
    FusionItem item = FusionItem::of(sample, answer - sample.labels.begin());
    if (item.tokens() > max_length_ || !fits(item, item.prompt)) return std::nullopt;
    return item;
  }

  // Something to fuse, and an answer that no cut to max_length takes away.
  bool fits(const FusionItem& item, int64_t before) const {
    const int64_t n = item.tokens();
    return n >= min_length_ && n <= max_words_ && item.prompt >= 2 && item.prompt < n &&
           before < max_length_;
  }

  TextReader target_, source_;
  int64_t max_length_, max_words_, min_length_, source_vocab_;
  bool thinking_ = false;
  std::optional<TokenAligner> aligner_;
};

}  // namespace

FusionItem FusionItem::of(const FusionSample& sample, int64_t prompt) {
  FusionItem item{.target_ids = narrowed(sample.target_ids),
                  .source_ids = narrowed(sample.source_ids.at(0)),
                  .prompt = static_cast<int32_t>(prompt)};
  for (size_t i = 0; i < sample.target_ids.size(); ++i) {
    item.marks.push_back(static_cast<uint8_t>((sample.target_real[i] ? kTargetReal : 0) |
                                              (sample.source_real[0][i] ? kSourceReal : 0) |
                                              (sample.selector[i] > 0 ? kFused : 0)));
  }
  return item;
}

FusionSample FusionItem::sample() const {
  const std::vector<int64_t> ids(target_ids.begin(), target_ids.end());
  if (marks.empty()) return chat_fusion_sample(ids, prompt);
  FusionSample sample{.target_ids = ids,
                      .source_ids = {{source_ids.begin(), source_ids.end()}},
                      .source_real = std::vector<std::vector<bool>>(1)};
  for (size_t i = 0; i < marks.size(); ++i) {
    const bool real = marks[i] & kTargetReal;
    sample.selector.push_back(marks[i] & kFused ? 1 : -1);
    sample.labels.push_back(real && i >= static_cast<size_t>(prompt) ? ids[i] : kIgnoredLabel);
    sample.target_real.push_back(real);
    sample.source_real[0].push_back(marks[i] & kSourceReal);
  }
  return sample;
}

int64_t FusionItem::pattern() const {
  if (marks.empty()) return 5;  // fused, then not: two sections
  int64_t sections = 1;
  for (size_t i = 1; i < marks.size(); ++i) sections += (marks[i] ^ marks[i - 1]) & kFused ? 1 : 0;
  return 2 * sections + (marks[0] & kFused ? 1 : 0);
}

int64_t FusionItem::source_tokens() const {
  if (marks.empty()) return prompt - 1;
  size_t end = marks.size();
  while (end > 0 && !(marks[end - 1] & kFused)) --end;
  return static_cast<int64_t>(end);
}

FusionCorpus make_fusion_corpus(const Recipe& recipe, const TextReader& target,
                                const TextReader& source, int64_t source_vocab, uint64_t seed) {
  const DataOptions& data = recipe.data;
  if (data.kind == "plain" || data.kind == "jsonl") {
    throw Error({.code = ExitCode::kUsage,
                 .where = "data.kind",
                 .what = "stage c2c learns answers, so it needs conversations",
                 .got = data.kind,
                 .expected = "chat, sharegpt or synthetic"});
  }
  AlignmentKind alignment = alignment_kind_from_name(recipe.pair.alignment);
  if (alignment == AlignmentKind::kLastChar) {
    const bool same = target.tokenizer->fingerprint() == source.tokenizer->fingerprint();
    alignment = same ? AlignmentKind::kIdentity : AlignmentKind::kLongest;
  }
  FusionCorpus out;
  out.alignment = to_string(alignment);
  Builder builder(recipe, target, source, alignment, source_vocab);
  const auto add = [&](const std::vector<ChatMessage>& messages) {
    if (auto item = builder.build(messages)) {
      out.items.push_back(std::move(*item));
    } else {
      ++out.left_out;
    }
  };
  if (data.kind == "synthetic") {
    for (const auto& chat : family_chats(recipe, seed)) add(chat);
  } else {
    const auto corpus = open_corpus(data);
    const int64_t records =
        data.max_samples > 0 ? std::min(data.max_samples, corpus->size()) : corpus->size();
    Progress progress("tokenising", records, "conversations");
    for (int64_t i = 0; i < records; ++i) {
      if (stop_requested()) throw stopped_error("nothing was trained yet");
      try {
        add(prepared(corpus->read(i).messages, data.kind == "sharegpt"));
      } catch (const Error& error) {
        skip_or_rethrow(*corpus, i, data.skip_bad, error, out.left_out);
      }
      progress.advance(1);
    }
    progress.finish();
  }
  if (out.items.empty()) {
    throw Error({.code = ExitCode::kInput,
                 .where = "data",
                 .what = "no conversation is left to learn from",
                 .got = cat(out.left_out, " left out"),
                 .expected = "a question and an assistant's answer, prompt shorter than "
                             "train.c2c.max_length"});
  }
  return out;
}

}  // namespace kvlingua
