#include "kvlingua/projector/ridge.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "kvlingua/base/error.h"
#include "kvlingua/kernels/dense.h"

namespace kvlingua {

PreviousTokens previous_tokens(const RidgeOptions& options) {
  return {options.previous_tokens, options.previous_layers};
}

BlockPlan ridge_plan(const RidgeOptions& options, const KvShape& source, const KvShape& target) {
  std::vector<int64_t> candidates = ridge_candidates(options, source);
  if (options.budget > 0 && options.budget < static_cast<int64_t>(candidates.size()))
    candidates.resize(static_cast<size_t>(options.budget));
  const int64_t count = static_cast<int64_t>(candidates.size());
  at::Tensor layers;
  if (options.source_layers > 0 && options.source_layers < count) {
    layers = at::tensor(candidates, at::kLong)
                 .index({aligned_layers(count, target.layers, options.source_layers)});
  }
  return BlockPlan::make(row_shape(source, previous_tokens(options)), target,
                         options.features == "both", options.layout == "head_matched", layers,
                         candidates);
}

ParameterCount count_parameters(const RidgeOptions& options, const KvShape& source,
                                const KvShape& target) {
  const BlockPlan plan = ridge_plan(options, source, target);
  const int64_t groups = plan.groups(), in = plan.in_width(), out = plan.out_width();
  return {groups * (in + 1) * out, options.change_rank * groups * (in + out)};
}

std::vector<int64_t> ridge_candidates(const RidgeOptions& options, const KvShape& source) {
  std::vector<int64_t> layers = evenly_spaced(options.candidate_layers, source.layers);
  const PreviousTokens previous = previous_tokens(options);
  for (const int64_t layer : previous.layers) {
    if (layer >= 0 && layer < source.layers) continue;
    throw Error({.code = ExitCode::kUsage,
                 .where = "projector.ridge.previous_layers",
                 .what = "names a layer that the source does not have",
                 .got = cat(layer),
                 .expected = cat("0 to ", source.layers - 1)});
  }
  for (int64_t j = 0; j < previous.count(); ++j) layers.push_back(source.layers + j);
  return layers;
}

RidgeProjector::RidgeProjector(const KvShape& source, const KvShape& target,
                               const RidgeOptions& options)
    : Projector(source, target),
      options_(options),
      plan_(ridge_plan(options, source, target)),
      source_(ChannelStatistics::identity(row_shape(source, kvlingua::previous_tokens(options)))),
      target_(ChannelStatistics::identity(target)),
      weight_(at::zeros({plan_.groups(), plan_.in_width(), plan_.out_width()})),
      bias_(at::zeros({plan_.groups(), 1, plan_.out_width()})) {
  const int64_t rank = options.change_rank;
  if (rank == 0) return;
  constexpr uint64_t kSeed = 1;  // of a start from which every seed's training goes its own way
  at::Generator generator = at::detail::createCPUGenerator(kSeed);
  const double bound = 1.0 / std::sqrt(static_cast<double>(plan_.in_width()));
  change_in_ =
      at::empty({plan_.groups(), plan_.in_width(), rank}).uniform_(-bound, bound, generator);
  change_out_ = at::zeros({plan_.groups(), rank, plan_.out_width()});
}

void RidgeProjector::adopt(const RidgeSolution& solution) {
  const c10::NoGradGuard no_grad;
  plan_.select.copy_(solution.plan.select);
  weight_.copy_(solution.weight);
  bias_.copy_(solution.bias);
  set_statistics(solution.source, solution.target);
}

void RidgeProjector::set_statistics(const ChannelStatistics& source,
                                    const ChannelStatistics& target) {
  const c10::NoGradGuard no_grad;
  source_.mean.copy_(source.mean);
  source_.deviation.copy_(source.deviation);
  target_.mean.copy_(target.mean);
  target_.deviation.copy_(target.deviation);
}

at::Tensor RidgeProjector::standardised_source(const CacheRows& source) const {
  check_rows(source.shape());
  const int64_t rows = source.rows();
  const at::Tensor raw =
      at::cat({source.keys_NLHD.reshape({rows, -1}), source.values_NLHD.reshape({rows, -1})}, 1)
          .to(at::kFloat);
  return ((raw - source_.mean.flatten()) / source_.deviation.flatten()).to(weight_.scalar_type());
}

at::Tensor RidgeProjector::standardised_output(const at::Tensor& channels_NC) const {
  const at::Tensor x = gather_features(plan_, channels_NC);
  at::Tensor y = dense_groups(x, weight_) + bias_;
  if (change_in_.defined()) y = y + dense_groups(dense_groups(x, change_in_), change_out_);
  return scatter_outputs(plan_, y);
}

at::Tensor RidgeProjector::weight() const {
  return change_in_.defined() ? weight_ + at::bmm(change_in_, change_out_) : weight_;
}

CacheRows RidgeProjector::destandardised(const at::Tensor& outputs_N2LHD) const {
  const at::Tensor y = at::addcmul(target_.mean, outputs_N2LHD.to(at::kFloat), target_.deviation);
  return {y.select(1, 0), y.select(1, 1)};
}

CacheRows RidgeProjector::translate_rows(const CacheRows& source, const CacheRows*,
                                         uint64_t) const {
  return destandardised(standardised_output(standardised_source(source)));
}

NamedTensors RidgeProjector::parameters() const {
  NamedTensors all{{"weight", weight_}, {"bias", bias_}};
  if (change_in_.defined()) {
    all.emplace_back("change.in", change_in_);
    all.emplace_back("change.out", change_out_);
  }
  return all;
}

NamedTensors RidgeProjector::buffers() const {
  return {{"select", plan_.select},
          {"source_mean", source_.mean},
          {"source_deviation", source_.deviation},
          {"target_mean", target_.mean},
          {"target_deviation", target_.deviation}};
}

nlohmann::json RidgeProjector::config() const {
  nlohmann::json config = Projector::config();
  config["options"] = {{"source_layers", options_.source_layers},
                       {"candidate_layers", options_.candidate_layers},
                       {"layout", options_.layout},
                       {"features", options_.features},
                       {"previous_tokens", options_.previous_tokens},
                       {"previous_layers", options_.previous_layers},
                       {"budget", options_.budget},
                       {"change_rank", options_.change_rank}};
  return config;
}

void RidgeProjector::to(at::Device device, at::ScalarType dtype) {
  plan_.select = plan_.select.to(device);
  weight_ = weight_.to(device, dtype);
  bias_ = bias_.to(device, dtype);
  if (change_in_.defined()) {
    change_in_ = change_in_.to(device, dtype);
    change_out_ = change_out_.to(device, dtype);
  }
  source_ = source_.to(device);
  target_ = target_.to(device);
}

}  // namespace kvlingua
