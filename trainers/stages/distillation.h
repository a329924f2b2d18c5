// The distillation stage's objective, in translate mode: the source alone reads the context, and
// the frozen target answers from the translated cache as if it had read it.
//
//   teacher   target reads  before + span + rest + answer                 -> logits at the answer
//   student   target reads  before | translated span | rest + answer      -> logits at the answer
//   loss      kl_weight KL(teacher || student) + ce_weight CE(answer)
//             + anchor * normalised error of K and V
// Gradients run through the frozen target into the projector. KL alone stays at the target's own
// level and is the honest measure of transfer; cross-entropy on the gold answer teaches beyond it.
//
// What does not depend on the projector (the source's rows, the teacher's logits) is computed once
// an item and kept where all of it fits in `cache_bytes`, in fixed blocks of items so that a
// resumed run computes the same bits; else, and for items drawn without end, once a batch, for its
// items together. Memory of a step is bounded by the micro-batch; checkpoint_activations trades it
// for time.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kvlingua/bridge/reader.h"
#include "kvlingua/config/train_options.h"
#include "kvlingua/projector/projector.h"
#include "kvlingua/projector/statistics.h"
#include "trainers/engine/index_stream.h"
#include "trainers/engine/objective.h"
#include "trainers/engine/validation.h"
#include "trainers/stages/distillation_items.h"

namespace kvlingua {

// What is trained on and what chooses between the states of training.
struct DistillationData {
  std::vector<DistillationItem> items;      // gone through in epochs; or
  std::shared_ptr<const FreshItems> fresh;  // drawn without end
  // Of names and values that are not trained on. None: the last tenth of `items`, 64 at most.
  std::vector<DistillationItem> held_out = {};
};

// What is prepared of the items is kept where all of it fits in so much.
constexpr int64_t kKeptItemBytes = int64_t{1} << 30;

class DistillationObjective : public Objective {
 public:
  // `validation` may be null. Of every batch this process (`rank` of `world`) takes its share.
  // Throws Error (kUsage) for projectors that need the target's own cache and for batches that
  // cannot be dealt.
  // Models and tokenizers of the readers must outlive it, as the projector.
  DistillationObjective(const Projector& projector, Reader source, Reader target,
                        DistillationData data, const ChannelStatistics& target_statistics,
                        const DistillationOptions& options, uint64_t seed,
                        std::shared_ptr<const Validation> validation, int64_t rank = 0,
                        int64_t world = 1, int64_t cache_bytes = kKeptItemBytes);

  MicroBatch next(bool want_parts) override;
  // The score is the held-out items' KL; beside it kl_trained, that of items that were trained on.
  ValidationResult validate() override;
  double validation_units() const override {
    return static_cast<double>(held_out() + trained_sample());
  }
  Preparation prepared_so_far() const override { return so_far_; }
  nlohmann::json state() const override;
  void restore(const nlohmann::json& state) override;
  int64_t micro_batches_per_epoch() const override;

  // The losses of these items with the projector as it is: for tests and validation. Numbers from
  // the list on are the held-out ones'.
  struct Losses {
    at::Tensor kl, cross_entropy, anchor;  // scalars: means over items of means over their tokens
    int64_t tokens = 0;                    // of the translated spans
  };
  Losses losses(const std::vector<int64_t>& items);

 private:
  // What is constant of one item.
  struct Prepared {
    CacheRows source;              // [span tokens, ...] aligned, un-rotated
    CacheRows target;              // the target's own, for the anchor
    at::Tensor teacher_log_probs;  // [answer tokens, vocabulary], of tempered logits
  };
  const Prepared& prepared(int64_t item);
  std::vector<Prepared> prepare(const std::vector<const DistillationItem*>& items);
  Losses losses(const std::vector<const DistillationItem*>& chosen,
                const std::vector<const Prepared*>& items) const;
  Losses fresh_losses(const std::vector<uint64_t>& numbers);
  int64_t held_out() const { return static_cast<int64_t>(items_.size()) - train_items_; }
  int64_t trained_sample() const;
  double mean_kl(int64_t first, int64_t count);
  double fresh_kl();
  KvCache translated(const std::vector<const Prepared*>& items, CacheRows& predicted) const;

  const Projector& projector_;
  Reader source_, target_;               // frozen
  std::vector<DistillationItem> items_;  // the list, then what is held out
  std::shared_ptr<const FreshItems> fresh_;
  uint64_t drawn_ = 0;  // fresh items, by all processes
  ChannelStatistics statistics_;
  DistillationOptions options_;
  int64_t rank_ = 0, world_ = 1;
  int64_t train_items_ = 0;  // of items_
  IndexStream stream_;
  std::shared_ptr<const Validation> validation_;
  bool keep_ = true;
  std::vector<std::optional<Prepared>> prepared_;
  Preparation so_far_;
};

}  // namespace kvlingua
