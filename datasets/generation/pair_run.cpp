#include "datasets/generation/pair_run.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <future>
#include <memory>
#include <utility>

#include "kvlingua/base/clock.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/stop_signal.h"

namespace kvlingua {
namespace {

using nlohmann::json;

SampleSide record_side(const SpanSide& side, const TextReader& reader) {
  SampleSide out;
  out.ids.assign(side.ids.begin(), side.ids.end());
  out.row_token = side.row_token;
  for (int32_t token : side.row_token)
    out.row_position.push_back(token + static_cast<int32_t>(reader.prefix_length()));
  return out;
}

json error_json(const TakenRows& rows) {
  const auto one = [](const StorageError& e) {
    return json{{"relative_rms", e.relative_rms}, {"max_abs", e.max_abs}};
  };
  return {{"keys", one(rows.key_error)}, {"values", one(rows.value_error)}};
}

void stop_if_asked() {
  if (stop_requested())
    throw stopped_error("finished shards are kept; the same command goes on from there");
}

int64_t cache_bytes(const PrefillResult& r) {
  int64_t n = r.cache.bytes();
  for (const at::Tensor* t : {&r.queries, &r.attention_outputs})
    n += t->defined() ? static_cast<int64_t>(t->nbytes()) : 0;
  return n;
}

// Rows are taken, looked at and handed to the system in pieces that stay in the processor's cache.
constexpr int64_t kPieceBytes = 256 << 10;

// What one model's part of a batch becomes: on the CPU when written, on a GPU already under way.
class PendingRows {
 public:
  // On the CPU nothing is done yet: the writer's thread encodes while the next batch is prefilled.
  PendingRows(PrefillResult result, int64_t prefix, Side side, StorageType storage, bool measure,
              HostStaging& staging, std::shared_ptr<const std::vector<SampleRecord>> samples)
      : result_(std::move(result)),
        prefix_(prefix),
        side_(side),
        storage_(storage),
        measure_(measure),
        samples_(std::move(samples)) {
    bytes_ = cache_bytes(result_);
    if (!staging.needed()) return;
    taken_ = taker().take_all(measure_);
    wait_ = staging.start(taken_);
    result_ = {};
  }
  int64_t bytes() const { return bytes_; }
  // Appends the rows; their measured errors.
  json write(ShardWriter& shard) {
    if (wait_) {
      wait_();
      shard.append_rows(side_, taken_, *samples_);
    } else if (measure_) {
      taken_ = taker().take_all(measure_);
      shard.append_rows(side_, taken_, *samples_);
    } else {
      write_pieces(shard);
    }
    const json errors = error_json(taken_);
    taken_ = {};
    result_ = {};
    return errors;
  }

 private:
  RowTaker taker() const { return {result_, prefix_, *samples_, side_, storage_}; }
  void write_pieces(ShardWriter& shard) const {
    const RowTaker rows = taker();
    const int64_t piece =
        std::max<int64_t>(1, kPieceBytes / std::max<int64_t>(rows.row_bytes(), 1));
    for (int64_t begin = 0; begin < rows.rows(); begin += piece) {
      const int64_t end = std::min(begin + piece, rows.rows());
      shard.append_rows(side_, rows.take(begin, end), *samples_, begin);
    }
  }

  PrefillResult result_;
  int64_t prefix_, bytes_ = 0;
  Side side_;
  StorageType storage_;
  bool measure_;
  std::shared_ptr<const std::vector<SampleRecord>> samples_;
  TakenRows taken_;
  std::function<void()> wait_;
};

}  // namespace

std::vector<SampleRecord> batch_records(const PairJob& job, int64_t batch) {
  std::vector<SampleRecord> records;
  const auto b = static_cast<size_t>(batch);
  for (int64_t i = job.plan.batch_offsets[b]; i < job.plan.batch_offsets[b + 1]; ++i) {
    const PlannedSample& planned = job.plan.samples[static_cast<size_t>(i)];
    const auto built = job.builder.build(job.corpus.read(planned.document), planned.document,
                                         job.corpus.split_by_construction());
    if (!built || static_cast<int32_t>(built->target.ids.size()) != planned.target_tokens ||
        static_cast<int32_t>(built->source.ids.size()) != planned.source_tokens) {
      throw Error({.code = ExitCode::kInput,
                   .where = cat("document ", planned.document),
                   .what = "the corpus changed while pairs were made",
                   .remedy = "run generate again"});
    }
    SampleRecord r;
    r.id = i;
    r.document = planned.document;
    r.use = built->validation ? SampleUse::kValidation : SampleUse::kTrain;
    r.text = built->text;
    r.source = record_side(built->source, job.builder.source());
    r.target = record_side(built->target, job.builder.target());
    r.alignment = built->alignment;
    r.target_source_row = built->target_source_row;
    r.alignment_covered = built->alignment_covered;
    records.push_back(std::move(r));
  }
  return records;
}

std::vector<BatchTurn> batch_turns(const BatchPlan& plan, const std::vector<int64_t>& shards,
                                   int64_t at_once) {
  std::vector<BatchTurn> turns;
  std::vector<BatchTurn> open;  // the next of each open shard
  size_t begun = 0;
  const auto first_of = [&](int64_t shard) {
    return BatchTurn{shard, plan.shards[static_cast<size_t>(shard)].first_batch, true, false};
  };
  while (begun < shards.size() && static_cast<int64_t>(open.size()) < at_once)
    open.push_back(first_of(shards[begun++]));
  for (size_t i = 0; !open.empty(); i = open.empty() ? 0 : i % open.size()) {
    BatchTurn& next = open[i];
    next.last = next.batch + 1 == plan.shards[static_cast<size_t>(next.shard)].last_batch;
    turns.push_back(next);
    if (!next.last) {
      ++next.batch;
      next.first = false;
      ++i;
    } else if (begun < shards.size()) {
      next = first_of(shards[begun++]);
      ++i;
    } else {
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return turns;
}

void PairRun::for_each_batch(const std::vector<BatchTurn>& turns, const Work& work) {
  const auto prepare = [this](int64_t batch) {
    return std::async(std::launch::async, [this, batch] {
      const double start = thread_cpu_seconds();
      auto records = batch_records(job_, batch);
      return std::pair(std::move(records), thread_cpu_seconds() - start);
    });
  };
  std::future<std::pair<std::vector<SampleRecord>, double>> next;
  if (!turns.empty()) next = prepare(turns.front().batch);
  for (size_t i = 0; i < turns.size(); ++i) {
    stop_if_asked();
    const double start = wall_seconds();
    auto [samples, seconds] = next.get();
    text_wait_seconds_ += wall_seconds() - start;
    text_cpu_seconds_ += seconds;
    if (i + 1 < turns.size()) next = prepare(turns[i + 1].batch);
    work(turns[i], samples);
  }
}

PrefillResult PairRun::timed_prefill(const CausalLM& model, Side side,
                                     const std::vector<SampleRecord>& samples) {
  const bool target = side == Side::kTarget;
  const double start = wall_seconds();
  PrefillResult result = prefill_spans(
      model, (target ? job_.builder.target() : job_.builder.source()).before, samples, side,
      {.queries = target && job_.info.queries,
       .attention_outputs = target && job_.info.attention_outputs});
  prefill_seconds_ += wall_seconds() - start;
  if (target) {
    int64_t tokens = 0;
    for (const SampleRecord& s : samples) tokens += static_cast<int64_t>(s.target.ids.size());
    tokens_ += tokens;
    progress_.advance(tokens);
  }
  return result;
}

void PairRun::both(const CausalLM& source, const CausalLM& target,
                   const std::vector<int64_t>& shards, PairWriter& writer) {
  HostStaging source_staging(source.device()), target_staging(target.device());
  const auto source_prefix = job_.builder.source().prefix_length();
  const auto target_prefix = job_.builder.target().prefix_length();
  const StorageType storage = job_.info.storage;
  for_each_batch(
      batch_turns(job_.plan, shards, writer.lanes()),
      [&](const BatchTurn& turn, std::vector<SampleRecord>& records) {
        const PlannedShard& planned = job_.plan.shards[static_cast<size_t>(turn.shard)];
        if (turn.first) writer.begin_shard(turn.shard, {planned.source_rows, planned.target_rows});
        const auto samples = std::make_shared<std::vector<SampleRecord>>(std::move(records));
        const bool measure = turn.first;
        auto from = std::make_shared<PendingRows>(timed_prefill(source, Side::kSource, *samples),
                                                  source_prefix, Side::kSource, storage, measure,
                                                  source_staging, samples);
        auto to = std::make_shared<PendingRows>(timed_prefill(target, Side::kTarget, *samples),
                                                target_prefix, Side::kTarget, storage, measure,
                                                target_staging, samples);
        writer.append(
            turn.shard, from->bytes() + to->bytes(),
            [samples, from, to, measure](ShardWriter& out) {
              const json source_error = from->write(out), target_error = to->write(out);
              out.append_samples(*samples);
              return measure ? json{{"source", source_error}, {"target", target_error}} : json();
            });
        if (turn.last) writer.end_shard(turn.shard);
      });
}

void PairRun::source_to_stage(const CausalLM& source, const std::vector<int64_t>& shards,
                              SourceStage& stage) {
  const auto prefix = job_.builder.source().prefix_length();
  for (int64_t shard : shards) {
    if (stage.has(shard)) continue;
    stage.begin(shard);
    json quantisation;
    for_each_batch(shard, [&](const BatchTurn& turn, std::vector<SampleRecord>& samples) {
      const bool measure = turn.first;
      const PrefillResult result = timed_prefill(source, Side::kSource, samples);
      TakenRows taken =
          RowTaker(result, prefix, samples, Side::kSource, job_.info.storage).take_all(measure);
      if (measure) quantisation = error_json(taken);
      StoredRows& rows = taken.rows;
      for (at::Tensor* t : {&rows.keys, &rows.values, &rows.key_scales, &rows.value_scales}) {
        if (t->defined()) *t = t->cpu();
      }
      stage.append(rows);
    });
    stage.publish(quantisation);
  }
}

void PairRun::target_with_stage(const CausalLM& target, const std::vector<int64_t>& shards,
                                SourceStage& stage, PairWriter& writer) {
  HostStaging staging(target.device());
  const auto prefix = job_.builder.target().prefix_length();
  for (int64_t shard : shards) {
    const PlannedShard& planned = job_.plan.shards[static_cast<size_t>(shard)];
    stage.open(shard);
    const json source_error = stage.quantisation();
    writer.begin_shard(shard, {planned.source_rows, planned.target_rows});
    for_each_batch(shard, [&](const BatchTurn& turn, std::vector<SampleRecord>& records) {
      const auto samples = std::make_shared<std::vector<SampleRecord>>(std::move(records));
      const bool measure = turn.first;
      int64_t rows = 0;
      for (const SampleRecord& s : *samples)
        rows += static_cast<int64_t>(s.source.row_token.size());
      const StoredRows from = stage.read(rows);
      auto to = std::make_shared<PendingRows>(timed_prefill(target, Side::kTarget, *samples),
                                              prefix, Side::kTarget, job_.info.storage, measure,
                                              staging, samples);
      writer.append(
          shard, from.bytes() + to->bytes(),
          [samples, from, to, measure, source_error](ShardWriter& out) {
            out.append_rows(Side::kSource, {.rows = from}, *samples);
            const json target_error = to->write(out);
            out.append_samples(*samples);
            return measure ? json{{"source", source_error}, {"target", target_error}} : json();
          });
    });
    writer.end_shard(shard);
    writer.finish();  // the stage goes only when the shard stands
    stage.remove(shard);
  }
  stage.finish();
}

}  // namespace kvlingua
