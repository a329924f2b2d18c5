#include "trainers/engine/pair_data.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <tuple>

#include "checkpoints/load_projector.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/random.h"
#include "kvlingua/bridge/open_model.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/layerwise.h"
#include "kvlingua/projector/mlp.h"
#include "trainers/engine/train_run.h"
#include "trainers/engine/training_cost.h"

namespace kvlingua {
namespace {

ModelIdentity identity_of(const ModelRecord& record) {
  return {record.name, record.architecture, record.weights, record.tokenizer, record.shape};
}

}  // namespace

RidgeProjector* base_of(Projector& projector) {
  if (auto* ridge = dynamic_cast<RidgeProjector*>(&projector)) return ridge;
  if (auto* mlp = dynamic_cast<MlpProjector*>(&projector)) return &mlp->base();
  return nullptr;
}

PairData::PairData(TrainRun& run) : run_(run) {
  const PairReader reader = PairReader::open(run.context().paths.dataset);
  info_ = reader.info();
  sha256_ = reader.manifest().sha256();
  for (int64_t s = 0; s < reader.shards(); ++s) {
    const ShardIndex& index = reader.shard(s).index();
    samples_ += index.samples();
    all_rows_ += index.target_row_offsets[static_cast<size_t>(index.samples())];
    for (int64_t i = 0; i < index.samples(); ++i) {
      const auto at = static_cast<size_t>(i);
      validation_samples_ += index.use[at] == SampleUse::kValidation;
      if (index.use[at] == SampleUse::kTrain)
        train_rows_ += index.target_row_offsets[at + 1] - index.target_row_offsets[at];
    }
  }
  pair_ = {identity_of(info_.source), identity_of(info_.target), info_.alignment};
  const KvShape rows = row_shape(info_.source.shape, previous_tokens());
  row_bytes_ =
      8 * (rows.layers * rows.width() + info_.target.shape.layers * info_.target.shape.width());
  const int64_t some = run.recipe().data.tokens_per_sample;
  if (previous_tokens().tokens > 0 && some > 0) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "projector.ridge.previous_tokens",
                 .what = "the set holds some tokens of each sample only",
                 .got = cat("data.tokens_per_sample ", some),
                 .expected = "whole samples",
                 .remedy = "set data.tokens_per_sample to 0"});
  }
}

PlanInputs PairData::plan_inputs(const MachineNumbers& machine) const {
  const auto numbers = [&](const ModelOptions& options, const KvShape& shape) {
    try {
      const ModelConfig config = ModelConfig::from_directory(locate_model(options));
      if (config.kv_shape() == shape)
        return numbers_of(config, options,
                          compute_bytes(options, run_.device(), config.parameter_count()));
    } catch (const Error&) {  // the stages that need the model say so
    }
    return numbers_of(shape);
  };
  const PairOptions& pair = run_.recipe().pair;
  return {.recipe = run_.recipe(),
          .source = numbers(pair.source, source_shape()),
          .target = numbers(pair.target, target_shape()),
          .corpus = {samples_, static_cast<double>(all_rows_) / static_cast<double>(samples_)},
          .machine = machine,
          .known_train_rows = static_cast<double>(train_rows_)};
}

std::vector<Stage::Line> PairData::lines() const {
  return {{"pairs", count_text(static_cast<double>(train_rows_)) + " rows"}};
}

PreviousTokens PairData::previous_tokens() const {
  const ProjectorOptions& options = run_.recipe().projector;
  if (options.kind != "ridge" && options.kind != "mlp") return {};
  return kvlingua::previous_tokens(options.ridge);
}

std::unique_ptr<BatchSource> PairData::source(LoadUnit unit, LoadUse use, int64_t batch,
                                              int64_t epochs, bool shuffle, bool shared) const {
  const Recipe& recipe = run_.recipe();
  return make_pair_source(run_.context().paths.dataset,
                          {.unit = unit,
                           .use = use,
                           .batch_size = batch,
                           .shuffle = shuffle,
                           .seed = mix(run_.seed(), hash_name("data order")),
                           .epochs = epochs,
                           .device = run_.device(),
                           .workers = recipe.data.workers,
                           .previous_tokens = previous_tokens(),
                           .shuffle_pairs = recipe.train.shuffle_pairs && use == LoadUse::kTrain,
                           .rank = shared ? run_.peers().rank() : 0,
                           .world = shared ? run_.peers().size() : 1});
}

StageStart PairData::previous(const std::string& stage) const {
  if (const std::string found = run_.earlier_stage(stage); !found.empty())
    return {read_checkpoint(found), found};
  const std::string& start_from = run_.recipe().train.start_from;
  if (start_from.empty()) return {};
  const LoadedProjector other = load_projector(resolve_path(start_from));
  StageStart start{read_checkpoint(other.path), other.path.string()};
  for (const auto& [role, theirs, ours] :
       {std::tuple{"source", start.checkpoint->pair.source, pair_.source},
        {"target", start.checkpoint->pair.target, pair_.target}}) {
    if (theirs.shape == ours.shape) continue;
    throw Error({.code = ExitCode::kInput,
                 .where = cat(start.where, ": ", role, " model"),
                 .what = "train.start_from is of another pair",
                 .got = cat(theirs.shape.describe(), " (", theirs.name, ")"),
                 .expected = cat(ours.shape.describe(), " (", ours.name, ")")});
  }
  start.checkpoint->state = TrainState{};
  return start;
}

std::unique_ptr<Projector> PairData::projector_for(const StageStart& start) {
  ProjectorOptions options = run_.recipe().projector;
  mix_seeds(options, mix(run_.seed(), hash_name("weights")));
  const auto& from = start.checkpoint;
  const std::string kind = from ? from->projector_config.value("kind", "") : options.kind;
  const bool linear = from && from->state.stage == kRidgeStage;
  if (kind != options.kind && !linear) {
    throw Error({.code = ExitCode::kInput,
                 .where = start.where,
                 .what = "the stage before trained another kind of projector",
                 .got = kind,
                 .expected = options.kind,
                 .remedy = "use --restart, or another checkpoint.name"});
  }
  std::unique_ptr<Projector> projector = make_projector(source_shape(), target_shape(), options);
  RidgeProjector* base = base_of(*projector);
  if (from && kind == options.kind) {
    projector->load_state(by_name(from->projector), start.where);
  } else if (from && base != nullptr) {
    base->load_state(by_name(from->projector), start.where);
  } else {
    if (base != nullptr) base->set_statistics(statistics().first, statistics().second);
    if (auto* layerwise = dynamic_cast<LayerwiseProjector*>(projector.get()))
      layerwise->set_statistics(statistics().first, statistics().second);
  }
  projector->to(run_.device(), resolve_dtype(options.dtype, run_.device()));
  return projector;
}

// From at most kTokenMeanRows training rows.
const std::pair<ChannelStatistics, ChannelStatistics>& PairData::statistics() {
  if (statistics_) return *statistics_;
  ChannelSums source_sums(row_shape(source_shape(), previous_tokens()), run_.device()),
      target_sums(target_shape(), run_.device());
  const auto rows = source(LoadUnit::kRows, LoadUse::kTrain, kRidgeBlock, 1, true, false);
  while (target_sums.count() < kTokenMeanRows) {
    const auto batch = rows->next();
    if (!batch) break;
    source_sums.add(batch->source);
    target_sums.add(batch->target);
  }
  statistics_ = {source_sums.statistics(), target_sums.statistics()};
  return *statistics_;
}

std::shared_ptr<Validation> PairData::validation(const ChannelStatistics& target_statistics) {
  if (validation_ || !run_.peers().main()) return validation_;
  const int64_t limit = std::min(kValidationRows, kValidationBytes / row_bytes_);
  const double begin = run_.meter().seconds();
  int64_t read = 0;
  std::vector<TrainBatch> held;
  const auto collect = [&](LoadUse use, int64_t most, const auto& take) {
    const auto rows = source(LoadUnit::kSequences, use, 8, 1, use == LoadUse::kTrain, false);
    for (int64_t n = 0; n < most;) {
      auto batch = rows->next();
      if (!batch) break;
      n += batch->rows();
      read += batch->rows();
      take(std::move(*batch));
    }
  };
  if (validation_samples_ > 0)
    collect(LoadUse::kValidation, limit, [&](TrainBatch b) { held.push_back(std::move(b)); });
  validation_ = std::make_shared<Validation>(std::move(held), target_statistics);
  if (validation_samples_ > 0) {
    collect(LoadUse::kTrain, kTokenMeanRows,
            [&](const TrainBatch& b) { validation_->fit_token_means(b); });
  }
  run_.meter().add("held_out", static_cast<double>(read), run_.meter().seconds() - begin);
  return validation_;
}

}  // namespace kvlingua
