#include "trainers/stages/continuation_items.h"

#include <algorithm>

#include "datasets/corpus/corpus.h"
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

void add_continuation_items(const Recipe& recipe, uint64_t seed, uint64_t data_seed,
                            const DistillationReader& source, const DistillationReader& target,
                            std::vector<DistillationItem>& items) {
  const DistillationOptions& options = recipe.train.distillation;
  const auto corpus = open_corpus(recipe.data);
  const AlignmentKind alignment = alignment_kind_from_name(recipe.pair.alignment);
  const auto reader = [&](const DistillationReader& r, const ModelOptions& model) {
    return make_span_reader(*r.tokenizer, model, recipe.data.chat, r.max_positions);
  };
  DataOptions data = recipe.data;
  data.tokens_per_sample = 0;
  const SampleBuilder builder(reader(source, recipe.pair.source),
                              reader(target, recipe.pair.target), data, alignment, data_seed);
  const Shuffle shuffle(corpus->size(), mix(seed, hash_name("continuations")));
  Random random(mix(seed, hash_name("continuation divisions")));
  int64_t added = 0, malformed = 0;
  for (int64_t i = 0; i < corpus->size() && added < options.continuations; ++i) {
    const int64_t number = shuffle(i);
    const auto document = read_document(*corpus, number, data.skip_bad, malformed);
    if (!document) continue;
    std::optional<BuiltSample> sample;
    try {
      sample = builder.build(*document, number, corpus->split_by_construction());
    } catch (const Error& error) {
      skip_or_rethrow(*corpus, number, data.skip_bad, error, malformed);
    }
    if (!sample || sample->validation) continue;
    const std::string_view text = sample->text;
    const auto division = divide(text, random);
    if (!division) continue;
    const auto piece = [&](size_t begin, size_t end) {
      return std::string(text.substr(begin, end - begin));
    };
    DistillationItem item = make_distillation_item(
        {piece(0, division->context), piece(division->context, division->word),
         piece(division->word, text.size())},
        source, target, alignment, options.max_answer);
    if (!can_be_read(item, source, target)) continue;
    items.push_back(std::move(item));
    ++added;
  }
  if (added == 0) {
    throw Error(
        {.code = ExitCode::kInput,
         .where = "train.distillation.continuations",
         .what = "no document of the corpus can be divided into a context and a continuation",
         .got = cat(corpus->size(), " documents"),
         .remedy = "use longer documents, or set it to 0"});
  }
  // Mixed, so that any run of items holds both kinds (validation takes the last ones).
  random.shuffle(items);
}

}  // namespace kvlingua
