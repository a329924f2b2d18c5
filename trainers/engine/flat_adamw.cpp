#include "trainers/engine/flat_adamw.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "checkpoints/checkpoint.h"
#include "kvlingua/base/error.h"
#include "kvlingua/kernels/adamw.h"

namespace kvlingua {
namespace {

constexpr int64_t kMostSteps = int64_t{1} << 53;

// A run that goes on on another device may compute in another of these; no optimizer here writes
// others.
bool is_weight_type(at::ScalarType type) {
  return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf;
}

bool fits(const at::Tensor& found, const at::Tensor& mine) {
  const bool type = is_weight_type(mine.scalar_type()) ? is_weight_type(found.scalar_type())
                                                       : found.scalar_type() == mine.scalar_type();
  return type && found.sizes() == mine.sizes();
}

std::string described(const at::Tensor& tensor) {
  return cat(at::toString(tensor.scalar_type()), " ", tensor.sizes());
}

}  // namespace

FlatAdamW::FlatAdamW(const NamedTensors& parameters, const std::vector<bool>& decayed,
                     const OptimizerOptions& options, bool master_copy)
    : options_(options) {
  const c10::NoGradGuard no_grad;
  for (const bool decay : {true, false}) {
    Segment segment{.weight_decay = decay ? options.weight_decay : 0.0};
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (decayed[i] != decay) continue;
      parameters_.push_back(parameters[i]);
      segment.size += parameters[i].second.numel();
    }
    segment.begin = segments_.empty() ? 0 : segments_.back().begin + segments_.back().size;
    segments_.push_back(segment);
  }
  const int64_t total = segments_[1].begin + segments_[1].size;
  if (total == 0) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "projector.kind",
                 .what = "this kind has nothing to train"});
  }
  const at::TensorOptions like = parameters_[0].second.options().requires_grad(false);
  values_ = at::empty({total}, like);
  gradients_ = at::zeros({total}, like);
  int64_t begin = 0;
  for (auto& [name, tensor] : parameters_) {
    const at::Tensor view = values_.narrow(0, begin, tensor.numel()).view(tensor.sizes());
    view.copy_(tensor);
    tensor.set_data(view);
    tensor.requires_grad_(true);
    tensor.mutable_grad() = gradients_.narrow(0, begin, tensor.numel()).view(tensor.sizes());
    begin += tensor.numel();
  }
  const bool half = values_.scalar_type() != at::kFloat && master_copy;
  master_ = half ? values_.to(at::kFloat) : values_;
  master_gradient_ = half ? at::zeros_like(master_) : gradients_;
  one_pass_ = values_.is_cpu() && values_.scalar_type() == at::kFloat;
  first_ = at::zeros_like(master_);
  second_ = at::zeros_like(master_);
  if (options.ema > 0) average_ = master_.clone();
}

void FlatAdamW::zero_grad() {
  pending_scale_ = 1;
  if (one_pass_ && clear_) {  // step() has cleared it
    clear_ = false;
    return;
  }
  gradients_.zero_();
  if (!master_gradient_.is_same(gradients_)) master_gradient_.zero_();
}

void FlatAdamW::collect_grad() {
  if (master_gradient_.is_same(gradients_)) return;
  const c10::NoGradGuard no_grad;
  master_gradient_.add_(gradients_);
  gradients_.zero_();
}

at::Tensor FlatAdamW::clip(double max_norm) {
  const c10::NoGradGuard no_grad;
  if (one_pass_) {
    const double norm = std::sqrt(sum_of_squares(gradients_));
    pending_scale_ = max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0;
    return at::full({}, norm, gradients_.options());
  }
  const at::Tensor norm = master_gradient_.norm();
  if (max_norm > 0) master_gradient_.mul_((max_norm / (norm + 1e-6)).clamp_max(1.0));
  return norm;
}

void FlatAdamW::step(double lr) {
  const c10::NoGradGuard no_grad;
  ++steps_;
  // float32 whatever the weights are: the kernel of a GPU reads it as that.
  const at::Tensor count =
      at::full({}, static_cast<double>(steps_), master_.options().dtype(at::kFloat));
  for (const Segment& s : segments_) {
    if (s.size == 0) continue;
    if (one_pass_) {
      const auto range = [&](const at::Tensor& t) { return t.narrow(0, s.begin, s.size); };
      adamw_step({.lr = lr,
                  .beta1 = options_.beta1,
                  .beta2 = options_.beta2,
                  .eps = options_.eps,
                  .weight_decay = s.weight_decay,
                  .step = steps_,
                  .gradient_scale = pending_scale_},
                 range(values_), range(gradients_), range(first_), range(second_));
      continue;
    }
    const auto part = [&](const at::Tensor& t) {
      return std::vector<at::Tensor>{t.narrow(0, s.begin, s.size)};
    };
    at::_fused_adamw_(part(master_), part(master_gradient_), part(first_), part(second_), {},
                      {count}, lr, options_.beta1, options_.beta2, s.weight_decay, options_.eps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
  clear_ = one_pass_;
  if (average_.defined()) average_.lerp_(master_, 1.0 - options_.ema);
  write_back();
}

void FlatAdamW::write_weights() {
  const c10::NoGradGuard no_grad;
  if (average_.defined()) average_.copy_(master_);
  write_back();
}

void FlatAdamW::write_back() {
  if (!master_.is_same(values_)) values_.copy_(master_);
}

NamedTensors FlatAdamW::state() const {
  NamedTensors state{{"first_moment", first_},
                     {"second_moment", second_},
                     {"steps", at::tensor({steps_}, at::kLong)}};
  if (average_.defined() || !master_.is_same(values_)) state.emplace_back("weights", master_);
  if (average_.defined()) state.emplace_back("average", average_);
  return state;
}

void FlatAdamW::load_state(const std::map<std::string, at::Tensor>& state,
                           const std::string& where) {
  const c10::NoGradGuard no_grad;
  for (const auto& [name, mine] : this->state()) {
    const auto found = state.find(name);
    const auto refuse = [&, &tensor = name](const char* what, std::string got,
                                            std::string expected) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = cat(where, ": tensor ", tensor),
                   .what = what,
                   .got = std::move(got),
                   .expected = std::move(expected),
                   .remedy = "use an older checkpoint, or --restart"});
    };
    if (found == state.end() || !fits(found->second, mine))
      refuse("does not fit this training run",
             found == state.end() ? "none" : described(found->second), described(mine));
    refuse_non_finite({*found}, where, ExitCode::kCorrupt);
    if (name == "second_moment" && found->second.lt(0).any().item<bool>())
      refuse("a mean of squares below 0", cat(found->second.min().item<double>()), "0 or more");
    if (name == "steps") {
      const auto steps = found->second.item<int64_t>();
      if (steps < 0 || steps > kMostSteps)
        refuse("is no number of steps", cat(steps), cat("0 to ", kMostSteps));
      steps_ = steps;
    } else {
      at::Tensor(mine).copy_(found->second);
    }
  }
  write_back();
}

void FlatAdamW::adopt_moments(
    const std::map<std::string, std::pair<at::Tensor, at::Tensor>>& moments, int64_t steps) {
  const c10::NoGradGuard no_grad;
  int64_t begin = 0;
  for (const auto& [name, tensor] : parameters_) {
    const auto& [first, second] = moments.at(name);
    first_.narrow(0, begin, tensor.numel()).copy_(first.flatten());
    second_.narrow(0, begin, tensor.numel()).copy_(second.flatten());
    begin += tensor.numel();
  }
  steps_ = steps;
}

void FlatAdamW::swap_average() {
  const c10::NoGradGuard no_grad;
  const at::Tensor kept = master_.clone();
  master_.copy_(average_);
  average_.copy_(kept);
  write_back();
}

void FlatAdamW::set_weights(const at::Tensor& flat) {
  const c10::NoGradGuard no_grad;
  master_.copy_(flat);
  if (average_.defined()) average_.copy_(flat);
  write_back();
}

}  // namespace kvlingua
