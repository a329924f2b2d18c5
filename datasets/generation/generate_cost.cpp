#include "datasets/generation/generate_cost.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "datasets/corpus/corpus.h"
#include "datasets/generation/sample_builder.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

StagePlan plan(const PlanInputs& in) {
  const double stored = stored_tokens(in) * in.pair_bytes_per_token();
  const DataOptions& data = in.recipe.data;
  const double weights = resident_weights(in, true);
  // What is computed faster than it is written waits, 256 MiB at most, in the host's memory.
  const double prefill_rate = in.machine.flops / (in.source.flops_per_token(in.length()) +
                                                  in.target.flops_per_token(in.length()));
  const double made = stored * prefill_rate / std::max(1.0, in.span_tokens());  // bytes a second
  const double late = stored * std::max(0.0, 1 - in.machine.disk_rate / std::max(1.0, made));
  const double waiting = in.machine.cuda ? 0 : std::min(late, double{256 << 20});
  const auto memory = [&, weights, waiting](double tokens) {
    const double caches = in.source.kv_bytes(d(in.source.compute_bytes)) +
                          in.target.kv_bytes(d(in.target.compute_bytes));
    return weights + tokens * caches + waiting +
           std::max(in.source.activation_bytes(tokens), in.target.activation_bytes(tokens));
  };
  StagePlan plan = affine_plan(in, "generate", memory, "data.batch_tokens", data.batch_tokens);
  plan.weights = weights;
  const double batches = std::ceil(in.span_tokens() / d(std::max<int64_t>(1, data.batch_tokens)));
  plan.disk = stored;
  const double prefill = forward_seconds(in, in.source, in.span_tokens(), batches) +
                         forward_seconds(in, in.target, in.span_tokens(), batches);
  plan.seconds = std::max(prefill, stored / in.machine.disk_rate);  // they overlap
  return plan;
}

PhaseUnits units(const PlanInputs& in) {
  return {{"plan", d(in.corpus.samples)},
          {"pairs", d(in.corpus.samples) * in.corpus.tokens_per_sample}};
}

}  // namespace

double stored_tokens(const PlanInputs& in) {
  const DataOptions& data = in.recipe.data;
  return d(in.corpus.samples) * (data.tokens_per_sample > 0
                                     ? std::min(d(data.tokens_per_sample), in.length())
                                     : in.length());
}

StageCost generate_cost() { return {.plan = plan, .units = units}; }

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

}  // namespace kvlingua
