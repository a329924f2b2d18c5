// The loop of generation: planned shards through two models into a writer. What generate() sets up,
// this runs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "datasets/generation/batch_plan.h"
#include "datasets/generation/pair_prefill.h"
#include "datasets/generation/source_stage.h"
#include "datasets/pairs/pair_schema.h"
#include "datasets/pairs/pair_writer.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/model/causal_lm.h"

namespace kvlingua {

// Everything that stays as it is while pairs are made.
struct PairJob {
  const Corpus& corpus;
  const SampleBuilder& builder;
  const BatchPlan& plan;
  const PairSetInfo& info;
};

// A batch at its turn.
struct BatchTurn {
  int64_t shard = 0, batch = 0;
  bool first = false, last = false;  // of its shard
};
// The batches of these shards, `at_once` shards open at a time: those take turns, and a shard that
// is done makes room for the next.
std::vector<BatchTurn> batch_turns(const BatchPlan& plan, const std::vector<int64_t>& shards,
                                   int64_t at_once);

// The samples of one planned batch, tokenised again from the corpus.
std::vector<SampleRecord> batch_records(const PairJob& job, int64_t batch);

// Runs shards, as many at once as the writer has lanes. Stops with Error (kTerminated,
// kInterrupted) between batches when asked to.
class PairRun {
 public:
  PairRun(const PairJob& job, Progress& progress) : job_(job), progress_(progress) {}

  // Both models in memory. Either may be null when the other half comes from (goes to) a stage.
  void both(const CausalLM& source, const CausalLM& target, const std::vector<int64_t>& shards,
            PairWriter& writer);
  void source_to_stage(const CausalLM& source, const std::vector<int64_t>& shards,
                       SourceStage& stage);
  void target_with_stage(const CausalLM& target, const std::vector<int64_t>& shards,
                         SourceStage& stage, PairWriter& writer);

  double prefill_seconds() const { return prefill_seconds_; }
  // Waited for texts and ids; processor time spent on them.
  double text_wait_seconds() const { return text_wait_seconds_; }
  double text_cpu_seconds() const { return text_cpu_seconds_; }
  int64_t tokens() const { return tokens_; }  // target tokens read

 private:
  using Work = std::function<void(const BatchTurn& turn, std::vector<SampleRecord>& samples)>;
  // Calls `work` for each batch in this order; the next batch is tokenised meanwhile.
  void for_each_batch(const std::vector<BatchTurn>& turns, const Work& work);
  // Of one shard alone.
  void for_each_batch(int64_t shard, const Work& work) {
    for_each_batch(batch_turns(job_.plan, {shard}, 1), work);
  }
  PrefillResult timed_prefill(const CausalLM& model, Side side,
                              const std::vector<SampleRecord>& samples);

  PairJob job_;
  Progress& progress_;
  double prefill_seconds_ = 0.0, text_wait_seconds_ = 0.0, text_cpu_seconds_ = 0.0;
  int64_t tokens_ = 0;
};

}  // namespace kvlingua
