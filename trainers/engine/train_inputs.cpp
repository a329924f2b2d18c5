// What TrainRun (train_run.h) reads before its stages: held-out rows, statistics, validation.
#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <tuple>

#include "checkpoints/load_projector.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/layerwise.h"
#include "trainers/engine/train_run.h"

namespace kvlingua {
namespace {

constexpr int64_t kValidationRows = 4096;  // at most; fewer where rows are wide
constexpr int64_t kTokenMeanRows = 20000;  // training rows of the token-identity baseline
constexpr int64_t kValidationBytes = 256 << 20;

}  // namespace

RidgeProjector* base_of(Projector& projector) {
  if (auto* ridge = dynamic_cast<RidgeProjector*>(&projector)) return ridge;
  if (auto* mlp = dynamic_cast<MlpProjector*>(&projector)) return &mlp->base();
  return nullptr;
}

// What a stage starts from: the newest checkpoint of an earlier stage, or of another run.
std::optional<Checkpoint> TrainRun::previous(const std::string& stage, std::string& where) {
  const auto& order = recipe_.train.stages;
  const auto mine = std::find(order.begin(), order.end(), stage);
  for (auto it = std::make_reverse_iterator(mine); it != order.rend(); ++it) {
    if (const std::string found = folder_.find(*it, peers_); !found.empty()) {
      where = found;
      return read_checkpoint(found);
    }
  }
  if (recipe_.train.start_from.empty()) return std::nullopt;
  const LoadedProjector other = load_projector(resolve_path(recipe_.train.start_from));
  where = other.path.string();
  Checkpoint checkpoint = read_checkpoint(other.path);
  for (const auto& [role, theirs, ours] :
       {std::tuple{"source", checkpoint.pair.source, pair_.source},
        {"target", checkpoint.pair.target, pair_.target}}) {
    if (theirs.shape == ours.shape) continue;
    throw Error({.code = ExitCode::kInput,
                 .where = cat(where, ": ", role, " model"),
                 .what = "train.start_from is of another pair",
                 .got = cat(theirs.shape.describe(), " (", theirs.name, ")"),
                 .expected = cat(ours.shape.describe(), " (", ours.name, ")")});
  }
  checkpoint.state = TrainState{};
  return checkpoint;
}

std::unique_ptr<Projector> TrainRun::projector_for(const std::optional<Checkpoint>& from,
                                                   const std::string& where) {
  ProjectorOptions options = recipe_.projector;
  for (int64_t* seed : {&options.mlp.seed, &options.lcf.seed, &options.dense_latent.seed}) {
    *seed = static_cast<int64_t>(
        mix(mix(seed_, hash_name("weights")), static_cast<uint64_t>(*seed)) >> 1);
  }
  std::unique_ptr<Projector> projector;
  const std::string kind = from ? from->projector_config.value("kind", "") : "";
  if (from && (kind == options.kind || from->state.stage == "ridge")) {
    projector = make_projector(info_.source.shape, info_.target.shape, options);
    if (kind == options.kind) {
      projector->load_state(by_name(from->projector), where);
    } else if (RidgeProjector* base = base_of(*projector)) {
      base->load_state(by_name(from->projector), where);
    } else if (auto* layerwise = dynamic_cast<LayerwiseProjector*>(projector.get())) {
      layerwise->set_statistics(statistics().first, statistics().second);
    }
  } else if (from) {
    throw Error({.code = ExitCode::kInput,
                 .where = where,
                 .what = "the stage before trained another kind of projector",
                 .got = kind,
                 .expected = options.kind,
                 .remedy = "use --restart, or another checkpoint.name"});
  } else {
    projector = make_projector(info_.source.shape, info_.target.shape, options);
    if (RidgeProjector* base = base_of(*projector))
      base->set_statistics(statistics().first, statistics().second);
    if (auto* layerwise = dynamic_cast<LayerwiseProjector*>(projector.get()))
      layerwise->set_statistics(statistics().first, statistics().second);
  }
  projector->to(device_, resolve_dtype(options.dtype, device_));
  return projector;
}

// Channel statistics of both sides, from at most kTokenMeanRows training rows; only asked for when
// no ridge stage has gathered them.
const std::pair<ChannelStatistics, ChannelStatistics>& TrainRun::statistics() {
  if (statistics_) return *statistics_;
  ChannelSums source_sums(row_shape(info_.source.shape, previous_tokens()), device_),
      target_sums(info_.target.shape, device_);
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

std::shared_ptr<Validation> TrainRun::validation(const ChannelStatistics& target_statistics) {
  if (validation_ || !peers_.main()) return validation_;
  const int64_t limit = std::min(kValidationRows, kValidationBytes / row_bytes_);
  const double begin = meter_->seconds();
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
  meter_->add("held_out", static_cast<double>(read), meter_->seconds() - begin);
  return validation_;
}

}  // namespace kvlingua
