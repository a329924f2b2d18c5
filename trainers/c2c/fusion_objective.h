// Fusion: cross-entropy of the answer through the frozen target, after the projector has fused the
// prompt (Cache-to-Cache's training, arXiv 2510.03215). The target computes logits for the answer
// alone and a gradient only from the first fused token on; the source's caches are kept between
// epochs (source_store.h).
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "kvlingua/cache/side_stream.h"
#include "kvlingua/config/train_options.h"
#include "kvlingua/projector/c2c.h"
#include "trainers/c2c/fusion_batches.h"
#include "trainers/c2c/fusion_items.h"
#include "trainers/c2c/source_store.h"
#include "trainers/engine/objective.h"

namespace kvlingua {

struct FusionObjectiveOptions {
  C2cTrainOptions train;
  FusionOrder order = FusionOrder::kSequential;
  uint64_t seed = 0;
  std::filesystem::path cache_file;  // of train.c2c.source_cache disk
  bool several_epochs = false;       // items are read more than once
  // This process's part: of the micro-batches of each step every `world`-th, from `rank` on.
  int64_t rank = 0, world = 1;
  // For comparisons with other programs: items as they come, and every draw of the gate's noise
  // this number.
  bool in_order = false;
  std::optional<double> uniform;
};

class FusionObjective : public Objective {
 public:
  // All but the last share (1 - train_ratio, at least one where there are two) of `items` train.
  // Projector and models must outlive it.
  FusionObjective(C2CProjector& projector, const CausalLM& source, const CausalLM& target,
                  std::vector<FusionItem> items, const FusionObjectiveOptions& options);

  // Token-weighted: every answer token of a step counts alike. With unweighted_micro_batches every
  // micro-batch counts 1 / accumulation, as Cache-to-Cache does, also in the short window that ends
  // an epoch. Of several processes each takes part in the window with its own; one may have none.
  std::vector<double> window(int64_t accumulation) override;
  MicroBatch next(bool want_parts) override;
  void stepped(int64_t steps) override { projector_.fuser().set_temperature(steps); }
  ValidationResult validate() override;
  nlohmann::json state() const override { return batches_.state(); }
  void restore(const nlohmann::json& state) override;
  int64_t micro_batches_per_epoch() const override { return batches_.per_epoch(); }

  // Optimizer steps of `epochs` passes; windows end with an epoch.
  int64_t steps(const BatchOptions& batch) const;
  // As if `steps` steps had been taken: for another program's run that goes on here.
  void seek(int64_t steps, int64_t accumulation);
  int64_t train_items() const { return train_items_; }
  const SourceStore& sources() const { return store_; }

 private:
  struct Planned {
    std::vector<int64_t> items;
    FusionBatch batch;
    int64_t number = 0;  // of all micro-batches of the run
    KvCache source{};    // what the source has read of it, once it has
    SideStream::Mark read{};
  };
  Planned plan(std::vector<int64_t> items) const;
  // The source reads, on a GPU beside what the target and the projector are doing.
  void read(Planned& planned);
  FusionLoss loss(Planned& planned);

  C2CProjector& projector_;
  const CausalLM& source_;
  const CausalLM& target_;
  std::vector<FusionItem> items_;
  FusionObjectiveOptions options_;
  int64_t train_items_ = 0;
  FusionBatches batches_;
  SourceStore store_;
  SideStream reading_;
  std::deque<Planned> window_;
};

}  // namespace kvlingua
