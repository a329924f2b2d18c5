#include "trainers/engine/pair_source.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

class PairSource : public BatchSource {
 public:
  PairSource(const std::filesystem::path& dataset, const PairLoaderOptions& loader,
             const PairSourceOptions& options)
      : loader_(PairReader::open(dataset), loader),
        previous_tokens_(options.previous_tokens),
        shuffle_pairs_(options.shuffle_pairs) {}

  std::optional<TrainBatch> next() override {
    std::optional<PairBatch> batch = loader_.next();
    if (!batch) return std::nullopt;
    TrainBatch out = batch->rows.target_keys.defined() ? from_rows(batch->rows)
                                                       : from_sequences(batch->sequences);
    if (shuffle_pairs_) {
      // Half a batch away stands another sample, whether the rows are shuffled or in order.
      const int64_t away = std::max<int64_t>(1, out.rows() / 2);
      out.source = {out.source.keys_NLHD.roll(away, 0), out.source.values_NLHD.roll(away, 0)};
    }
    return out;
  }
  int64_t batches_per_epoch() const override { return loader_.batches_per_epoch(); }
  nlohmann::json state() const override { return loader_.state(); }
  void restore(const nlohmann::json& state) override { loader_.restore(state); }

 private:
  static TrainBatch from_rows(RowBatch& rows) {
    return {.source = {rows.source_keys, rows.source_values},
            .target = {rows.target_keys, rows.target_values},
            .sample_ids = std::move(rows.sample_ids)};
  }

  TrainBatch from_sequences(const SequenceBatch& s) const {
    const int64_t batch = s.target.batch(), tokens = s.target.tokens();
    TrainBatch out{.source = rows_of(s.source, s.alignment, previous_tokens_),
                   .target = rows_of(s.target)};
    if (s.target.mask().defined()) out.row_mask = s.target.mask().flatten();
    at::Tensor ids = at::zeros({batch, tokens}, at::kLong);
    for (int64_t b = 0; b < batch; ++b) {
      const SampleRecord& record = s.records[static_cast<size_t>(b)];
      const at::Tensor mine =
          at::empty({static_cast<int64_t>(record.target.row_token.size())}, at::kLong);
      for (size_t i = 0; i < record.target.row_token.size(); ++i) {
        const auto token = static_cast<size_t>(record.target.row_token[i]);
        mine.data_ptr<int64_t>()[i] = record.target.ids[token];
      }
      // Padding may stand on either side.
      const at::Tensor row = ids[b];
      if (s.target.mask().defined()) {
        row.masked_scatter_(s.target.mask()[b].to(at::kCPU), mine);
      } else {
        row.copy_(mine);
      }
      out.sample_ids.insert(out.sample_ids.end(), static_cast<size_t>(tokens), record.id);
    }
    out.target_tokens = ids.flatten();
    if (s.target_queries.defined()) {
      out.attention = AttentionContext{.queries_LBHTD = s.target_queries,
                                       .positions_BT = s.target.positions(),
                                       .mask_BT = s.target.mask(),
                                       .rope = loader_.info().target.rope};
    }
    return out;
  }

  PairLoader loader_;
  PreviousTokens previous_tokens_;
  bool shuffle_pairs_;
};

}  // namespace

std::unique_ptr<BatchSource> make_pair_source(const std::filesystem::path& dataset,
                                              const PairSourceOptions& options) {
  if (options.batch_size % options.world != 0) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "train",
                 .what = "the batch cannot be dealt to the processes",
                 .got = cat("batch of ", options.batch_size, ", ", options.world, " processes"),
                 .expected = "a multiple of their number"});
  }
  PairLoaderOptions loader;
  loader.unit = options.unit;
  loader.use = options.use;
  loader.batch_size = options.batch_size / options.world;
  loader.rank = options.rank;
  loader.world = options.world;
  loader.shuffle = options.shuffle;
  loader.seed = options.seed;
  loader.epochs = options.epochs;
  loader.drop_last = options.epochs == 0;
  loader.workers = options.workers;
  loader.device = options.device;
  loader.previous_tokens = options.previous_tokens;
  return std::make_unique<PairSource>(dataset, loader, options);
}

}  // namespace kvlingua
