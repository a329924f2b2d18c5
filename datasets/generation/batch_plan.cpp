#include "datasets/generation/batch_plan.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"

namespace kvlingua {
namespace {

// Windows hold this many full batches: enough to sort lengths well, few enough to keep the shuffle.
constexpr int64_t kWindowBatches = 32;

int64_t width(const PlannedSample& s, const SampleBuilder& builder) {
  return std::max<int64_t>(s.source_tokens + builder.source().prefix_length(),
                           s.target_tokens + builder.target().prefix_length());
}

// Cuts a window, sorted by length, into batches of at most batch_tokens padded tokens of one model.
void add_batches(std::vector<PlannedSample>& window, const SampleBuilder& builder,
                 int64_t batch_tokens, BatchPlan& plan) {
  std::sort(window.begin(), window.end(), [](const PlannedSample& a, const PlannedSample& b) {
    return std::tuple(a.target_tokens, a.source_tokens, a.document) <
           std::tuple(b.target_tokens, b.source_tokens, b.document);
  });
  size_t begin = 0;
  while (begin < window.size()) {
    size_t end = begin;
    int64_t widest = 0;
    while (end < window.size()) {
      const int64_t next = std::max(widest, width(window[end], builder));
      if (end > begin && next * static_cast<int64_t>(end - begin + 1) > batch_tokens) break;
      widest = next;
      ++end;
    }
    plan.samples.insert(plan.samples.end(), window.begin() + static_cast<std::ptrdiff_t>(begin),
                        window.begin() + static_cast<std::ptrdiff_t>(end));
    plan.batch_offsets.push_back(static_cast<int64_t>(plan.samples.size()));
    begin = end;
  }
  window.clear();
}

void add_shards(BatchPlan& plan, const SampleBuilder& builder, const DataOptions& data,
                const PlanBudget& budget) {
  PlannedShard shard;
  for (int64_t b = 0; b < plan.batches(); ++b) {
    int64_t source_widest = 0, target_widest = 0, count = 0;
    for (int64_t i = plan.batch_offsets[static_cast<size_t>(b)];
         i < plan.batch_offsets[static_cast<size_t>(b) + 1]; ++i) {
      const PlannedSample& s = plan.samples[static_cast<size_t>(i)];
      shard.source_rows += s.source_rows;
      shard.target_rows += s.target_rows;
      plan.source_tokens += s.source_tokens;
      plan.target_tokens += s.target_tokens;
      source_widest = std::max<int64_t>(source_widest, s.source_tokens);
      target_widest = std::max<int64_t>(target_widest, s.target_tokens);
      ++count;
    }
    plan.padded_tokens +=
        count * (source_widest + target_widest + builder.source().prefix_length() +
                 builder.target().prefix_length());
    shard.last_batch = b + 1;
    const int64_t bytes =
        shard.source_rows * budget.source_row_bytes + shard.target_rows * budget.target_row_bytes;
    if (bytes >= data.shard_bytes || b + 1 == plan.batches()) {
      plan.source_rows += shard.source_rows;
      plan.target_rows += shard.target_rows;
      plan.shards.push_back(shard);
      shard = {.first_batch = b + 1};
    }
  }
}

}  // namespace

BatchPlan plan_batches(const Corpus& corpus, const SampleBuilder& builder, const DataOptions& data,
                       uint64_t seed, const PlanBudget& budget,
                       const std::function<void(int64_t)>& progress) {
  BatchPlan plan;
  const Shuffle shuffle(corpus.size(), seed);
  std::vector<PlannedSample> window;
  int64_t window_tokens = 0, tokens = 0, samples = 0;
  for (int64_t i = 0; i < corpus.size(); ++i) {
    if (progress && i % 256 == 0) progress(i);
    const int64_t number = data.shuffle ? shuffle(i) : i;
    const auto document = read_document(corpus, number, data.skip_bad, plan.skipped_documents);
    if (!document) continue;
    std::optional<BuiltSample> sample;
    try {
      sample = builder.build(*document, number, corpus.split_by_construction());
    } catch (const Error& error) {
      // What a template alters or a model cannot read is as bad as what cannot be parsed.
      skip_or_rethrow(corpus, number, data.skip_bad, error, plan.skipped_documents);
      continue;
    }
    if (!sample) {
      ++plan.left_out;
      continue;
    }
    if (sample->control_tokens > 0) {
      if (plan.control_tokens == 0) plan.control_place = corpus.place(number);
      plan.control_tokens += sample->control_tokens;
      ++plan.documents_with_control;
    }
    PlannedSample s{number, static_cast<int32_t>(sample->source.ids.size()),
                    static_cast<int32_t>(sample->target.ids.size()),
                    static_cast<int32_t>(sample->source.row_token.size()),
                    static_cast<int32_t>(sample->target.row_token.size())};
    // The token budget counts stored target tokens, and is never overrun.
    if (data.max_tokens > 0 && tokens + s.target_rows > data.max_tokens) break;
    tokens += s.target_rows;
    window_tokens += width(s, builder);
    window.push_back(s);
    if (window_tokens >= kWindowBatches * data.batch_tokens) {
      add_batches(window, builder, data.batch_tokens, plan);
      window_tokens = 0;
    }
    if (budget.max_samples > 0 && ++samples >= budget.max_samples) break;
  }
  add_batches(window, builder, data.batch_tokens, plan);
  if (plan.samples.empty()) {
    throw Error({.code = ExitCode::kInput,
                 .where = "data",
                 .what = "nothing to store",
                 .got = cat(corpus.size(), " documents, ", plan.left_out,
                            " left out by length or split, ", plan.skipped_documents, " malformed"),
                 .remedy = "look at data.min_length, data.max_tokens and data.split"});
  }
  add_shards(plan, builder, data, budget);
  return plan;
}

}  // namespace kvlingua
