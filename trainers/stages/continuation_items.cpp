#include "trainers/stages/continuation_items.h"

#include <algorithm>

#include "datasets/corpus/corpus.h"
#include "datasets/generation/sample_builder.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua {
namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

}  // namespace

std::optional<Division> divide(std::string_view text, Random& random) {
  std::vector<size_t> spaces, characters;
  for (size_t i = text.size() / 5 + 1; i < text.size() * 4 / 5; ++i) {
    if (is_space(text[i]) && !is_space(text[i - 1])) spaces.push_back(i);
    if (begins_character(text[i]) && !is_space(text[i])) characters.push_back(i);
  }
  const bool words = !spaces.empty();
  if (!words && characters.empty()) return std::nullopt;
  Division d{random.pick(words ? spaces : characters), 0};
  d.word = d.context;
  if (words) {
    while (d.word < text.size() && is_space(text[d.word])) ++d.word;
    while (d.word < text.size() && !is_space(text[d.word])) ++d.word;
  } else {
    do {
      ++d.word;
    } while (d.word < text.size() && !begins_character(text[d.word]));
  }
  if (d.word >= text.size()) return std::nullopt;
  return d;
}

struct Continuations::Inside {
  std::unique_ptr<Corpus> corpus;
  bool skip_bad;
  TextReader source, target;
  AlignmentKind alignment;
  int64_t max_answer;
  SampleBuilder builder;
  Shuffle order;
  uint64_t seed;
};

namespace {

[[noreturn]] void nothing_to_continue(int64_t documents) {
  throw Error({.code = ExitCode::kInput,
               .where = "train.distillation.continuations",
               .what = "no document of the corpus can be divided into a context and a continuation",
               .got = cat(documents, " documents"),
               .remedy = "use longer documents, or set it to 0"});
}

}  // namespace

Continuations::Continuations(const Recipe& recipe, uint64_t seed, uint64_t data_seed,
                             const TextReader& source, const TextReader& target) {
  DataOptions data = recipe.data;
  data.tokens_per_sample = 0;
  auto corpus = open_corpus(recipe.data);
  const int64_t size = corpus->size();
  const AlignmentKind alignment = alignment_kind_from_name(recipe.pair.alignment);
  inside_ =
      std::make_unique<Inside>(Inside{std::move(corpus), data.skip_bad, source, target, alignment,
                                      recipe.train.distillation.max_answer,
                                      SampleBuilder(source, target, data, alignment, data_seed),
                                      Shuffle(size, mix(seed, hash_name("continuations"))), seed});
}

Continuations::~Continuations() = default;

int64_t Continuations::documents() const { return inside_->corpus->size(); }

std::optional<DistillationItem> Continuations::item(int64_t place, uint64_t division_seed) const {
  const Inside& in = *inside_;
  const int64_t number = in.order(place % documents());
  int64_t malformed = 0;
  const auto document = read_document(*in.corpus, number, in.skip_bad, malformed);
  if (!document) return std::nullopt;
  std::optional<BuiltSample> sample;
  try {
    sample = in.builder.build(*document, number, in.corpus->split_by_construction());
  } catch (const Error& error) {
    skip_or_rethrow(*in.corpus, number, in.skip_bad, error, malformed);
  }
  if (!sample || sample->validation) return std::nullopt;
  const std::string_view text = sample->text;
  Random random(division_seed);
  const auto division = divide(text, random);
  if (!division) return std::nullopt;
  const auto piece = [&](size_t begin, size_t end) {
    return std::string(text.substr(begin, end - begin));
  };
  DistillationItem item =
      make_distillation_item({piece(0, division->context), piece(division->context, division->word),
                              piece(division->word, text.size())},
                             in.source, in.target, in.alignment, in.max_answer);
  if (!can_be_read(item, in.source, in.target)) return std::nullopt;
  return item;
}

DistillationItem Continuations::fresh(uint64_t number) const {
  const auto size = static_cast<uint64_t>(documents());
  for (uint64_t i = 0; i < size; ++i) {
    const auto place = static_cast<int64_t>((number + i) % size);
    if (auto found = item(place, mix(mix(inside_->seed, hash_name("division")), number + i)))
      return std::move(*found);
  }
  nothing_to_continue(documents());
}

void add_continuation_items(const Continuations& continuations, int64_t count, uint64_t seed,
                            std::vector<DistillationItem>& items) {
  int64_t added = 0;
  for (int64_t i = 0; i < continuations.documents() && added < count; ++i) {
    auto item = continuations.item(
        i, mix(mix(seed, hash_name("continuation divisions")), static_cast<uint64_t>(i)));
    if (!item) continue;
    items.push_back(std::move(*item));
    ++added;
  }
  if (added == 0) nothing_to_continue(continuations.documents());
  // Mixed, so that any run of items holds both kinds.
  Random random(mix(seed, hash_name("continuation order")));
  random.shuffle(items);
}

}  // namespace kvlingua
