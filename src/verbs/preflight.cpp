#include "preflight.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "datasets/corpus/corpus.h"
#include "datasets/generation/sample_builder.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/model/preflight.h"
#include "kvlingua/text/tokenizer.h"
#include "rehearsal.h"
#include "stages.h"
#include "verbs.h"

namespace kvlingua::verbs {

// How many samples generation will find, and how long they are: from at most 256 of them, evenly
// spread.
CorpusNumbers count_corpus(const Recipe& recipe, const std::filesystem::path& target) {
  const DataOptions& data = recipe.data;
  const std::unique_ptr<Corpus> corpus = open_corpus(data);
  std::optional<Tokenizer> tokenizer;
  if (!target.empty()) tokenizer = Tokenizer::from_directory(target);
  const int64_t size = corpus->size(), looked_at = std::min<int64_t>(size, 256);
  double tokens = 0;
  int64_t read = 0;
  for (int64_t i = 0; i < looked_at; ++i) {
    std::string text;
    try {
      text = corpus->read(i * (size / looked_at)).text;
      size_t end = std::min<size_t>(text.size(), bytes_worth_reading(data.max_length));
      while (end > 0 && end < text.size() && !begins_character(text[end])) --end;
      text.resize(end);
    } catch (const Error&) {
      continue;  // generation says what is wrong with it
    }
    // About four bytes a token where there is no tokenizer yet.
    const double length = tokenizer ? static_cast<double>(tokenizer->encode(text, false).size())
                                    : static_cast<double>(text.size()) / 4;
    tokens += std::min(length, static_cast<double>(data.max_length));
    ++read;
  }
  CorpusNumbers numbers{.samples = size,
                        .tokens_per_sample = read > 0 ? tokens / static_cast<double>(read) : 0};
  if (data.max_samples > 0) numbers.samples = std::min(numbers.samples, data.max_samples);
  if (data.max_tokens > 0 && numbers.tokens_per_sample > 0) {
    numbers.samples = std::min(
        numbers.samples,
        static_cast<int64_t>(static_cast<double>(data.max_tokens) / numbers.tokens_per_sample) + 1);
  }
  return numbers;
}

Error cannot_run(const Preflight& preflight) {
  const bool models = !preflight.source.problem.empty() || !preflight.target.problem.empty();
  const ExitCode code = models                        ? ExitCode::kInput
                        : !preflight.plan.fits_memory ? ExitCode::kDevice
                        : !preflight.plan.fits_disk   ? ExitCode::kDiskFull
                                                      : ExitCode::kFailed;
  const size_t others = preflight.problems.size() - 1;
  return Error(
      {.code = code,
       .where = preflight.recipe.name,
       .what = "cannot run here",
       .remedy = preflight.problems.front() + (others > 0 ? cat(" (and ", others, " more)") : "")});
}

int PreflightVerb::run(const CommandLine& command) const {
  const Recipe recipe = load_recipe(command);
  const RunContext context = context_of(command, recipe);
  Preflight result = run_preflight(recipe, context, count_corpus);
  rehearse(result, context, {});
  put_result(command, to_text(result), to_json(result));
  if (!result.can_run()) throw cannot_run(result);
  return 0;
}

}  // namespace kvlingua::verbs
