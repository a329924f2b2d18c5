#include "trainers/stages/ridge_fit.h"

#include <ATen/ATen.h>

#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/random.h"
#include "kvlingua/projector/ridge.h"

namespace kvlingua {
namespace {

constexpr uint64_t kHoldoutSeed = hash_name("ridge holdout");

CacheRows select(const CacheRows& rows, const at::Tensor& index) {
  return {rows.keys_NLHD.index_select(0, index), rows.values_NLHD.index_select(0, index)};
}

}  // namespace

bool held_out_sample(int64_t sample_id, double share) {
  const uint64_t hash = mix(kHoldoutSeed, static_cast<uint64_t>(sample_id));
  return static_cast<double>(hash >> 11) * 0x1.0p-53 < share;
}

void gather_ridge_sums(BatchSource& source, const RidgeOptions& options, RidgeSumsPair& sums,
                       const std::function<void(int64_t)>& progress, RidgeRows which) {
  const bool choosing = options.lambda.size() > 1 || options.source_layers > 0 ||
                        options.budget > 0 || options.curve > 0;
  while (const auto batch = source.next()) {
    std::vector<int64_t> fitted, held;
    for (size_t i = 0; i < batch->sample_ids.size(); ++i) {
      const bool apart = choosing && held_out_sample(batch->sample_ids[i], options.holdout);
      (apart ? held : fitted).push_back(static_cast<int64_t>(i));
    }
    if (which == RidgeRows::kHeldOut) fitted.clear();
    if (which == RidgeRows::kFitted) held.clear();
    const at::Device device = batch->source.keys_NLHD.device();
    if (static_cast<int64_t>(fitted.size()) == batch->rows()) {
      sums.train.add(batch->source, batch->target);
    } else {
      for (const auto& [rows, into] : {std::pair{&fitted, &sums.train}, {&held, &sums.heldout}}) {
        const at::Tensor index = at::tensor(*rows, at::kLong).to(device);
        into->add(select(batch->source, index), select(batch->target, index));
      }
    }
    if (progress) progress(batch->rows());
  }
}

RidgeSumsPair make_ridge_sums(const KvShape& source, const KvShape& target,
                              const RidgeOptions& options, at::Device device,
                              uint64_t available_bytes) {
  const bool joint = options.features == "both";
  const KvShape rows = row_shape(source, previous_tokens(options));
  // Two sets of sums, and their standardised copies while solving; choosing layers two more.
  const uint64_t sets = options.budget > 0 ? 6 : 4;
  const auto needed = [&](int64_t candidates) {
    const int64_t layers =
        (candidates > 0 ? candidates : source.layers) + previous_tokens(options).count();
    return sets * static_cast<uint64_t>(RidgeSums::bytes(rows, target, joint, layers));
  };
  if (available_bytes > 0 && needed(options.candidate_layers) > available_bytes) {
    int64_t fits = options.candidate_layers > 0 ? options.candidate_layers : source.layers;
    while (fits > 0 && needed(fits) > available_bytes) --fits;
    throw Error({.code = ExitCode::kDevice,
                 .where = "projector.ridge",
                 .what = cat("the sums over ", rows.layers * rows.width(),
                             " source channels do not fit in memory"),
                 .got = bytes_text(static_cast<double>(needed(options.candidate_layers))),
                 .expected = cat("at most ", bytes_text(static_cast<double>(available_bytes))),
                 .remedy = fits > 0 ? cat("set projector.ridge.candidate_layers=", fits)
                                    : "use a larger machine"});
  }
  const auto candidates = ridge_candidates(options, source);
  return {RidgeSums(rows, target, joint, device, candidates),
          RidgeSums(rows, target, joint, device, candidates)};
}

}  // namespace kvlingua
