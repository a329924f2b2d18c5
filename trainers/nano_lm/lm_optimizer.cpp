#include "trainers/nano_lm/lm_optimizer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

// The quintic of the reference implementation: steepest at zero among those that keep [0, 1]
// near 1.
constexpr double kA = 3.4445;
constexpr double kB = -4.7750;
constexpr double kC = 2.0315;
constexpr int kIterations = 5;

bool is_hidden_matrix(const std::string& name, const at::Tensor& tensor) {
  return tensor.dim() == 2 && name.ends_with("_proj.weight");
}

}  // namespace

at::Tensor newton_schulz(const at::Tensor& matrices) {
  const bool tall = matrices.size(-2) > matrices.size(-1);
  at::Tensor x = tall ? matrices.transpose(-2, -1) : matrices;
  x = x / (x.norm(2, {-2, -1}, true) + 1e-7);
  for (int i = 0; i < kIterations; ++i) {
    const at::Tensor a = x.matmul(x.transpose(-2, -1));
    const at::Tensor b = kB * a + kC * a.matmul(a);
    x = kA * x + b.matmul(x);
  }
  return tall ? x.transpose(-2, -1) : x;
}

LmOptimizer::LmOptimizer(const NamedTensors& parameters, const Settings& settings)
    : settings_(settings) {
  for (const auto& [name, tensor] : parameters) {
    if (!is_hidden_matrix(name, tensor)) {
      others_.emplace_back(name, tensor);
      first_moments_.push_back(at::zeros_like(tensor).detach());
      second_moments_.push_back(at::zeros_like(tensor).detach());
      counts_.push_back(at::zeros({}, tensor.options().requires_grad(false)));
      continue;
    }
    auto group = std::find_if(groups_.begin(), groups_.end(), [&, &matrix = tensor](const auto& g) {
      return g.matrices[0].sizes() == matrix.sizes();
    });
    if (group == groups_.end()) group = groups_.insert(groups_.end(), MatrixGroup{});
    group->names.push_back(name);
    group->matrices.push_back(tensor);
  }
  for (auto& group : groups_) {
    group.momentum = at::zeros_like(at::stack(group.matrices).detach());
  }
}

void LmOptimizer::step(double muon_lr, double adam_lr) {
  c10::NoGradGuard no_grad;
  for (auto& group : groups_) step_matrices(group, muon_lr);
  step_others(adam_lr);
}

void LmOptimizer::step_matrices(MatrixGroup& group, double lr) {
  std::vector<at::Tensor> gradients;
  for (auto& matrix : group.matrices) gradients.push_back(matrix.grad());
  const at::Tensor gradient = at::stack(gradients);
  group.momentum.lerp_(gradient, 1 - settings_.muon_momentum);
  const at::Tensor update = newton_schulz(gradient.lerp(group.momentum, settings_.muon_momentum));
  const double rows = static_cast<double>(gradient.size(1));
  const double columns = static_cast<double>(gradient.size(2));
  const double rate = lr * std::sqrt(std::max(1.0, rows / columns));
  for (size_t i = 0; i < group.matrices.size(); ++i) {
    at::Tensor& matrix = group.matrices[i];
    if (settings_.weight_decay > 0) matrix.mul_(1 - lr * settings_.weight_decay);
    matrix.sub_(update[static_cast<int64_t>(i)], rate);
    matrix.mutable_grad().reset();
  }
}

void LmOptimizer::step_others(double lr) {
  std::vector<at::Tensor> parameters, gradients;
  for (auto& [name, tensor] : others_) {
    parameters.push_back(tensor);
    gradients.push_back(tensor.grad());
  }
  for (auto& count : counts_) count.add_(1);
  at::_fused_adamw_(parameters, gradients, first_moments_, second_moments_, {}, counts_, lr,
                    settings_.beta1, settings_.beta2, 0.0, 1e-8, /*amsgrad=*/false,
                    /*maximize=*/false);
  for (auto& [name, tensor] : others_) tensor.mutable_grad().reset();
}

NamedTensors LmOptimizer::state() const {
  NamedTensors all;
  for (const auto& group : groups_) {
    for (size_t i = 0; i < group.names.size(); ++i) {
      all.emplace_back("momentum." + group.names[i], group.momentum[static_cast<int64_t>(i)]);
    }
  }
  for (size_t i = 0; i < others_.size(); ++i) {
    all.emplace_back("first." + others_[i].first, first_moments_[i]);
    all.emplace_back("second." + others_[i].first, second_moments_[i]);
    all.emplace_back("count." + others_[i].first, counts_[i]);
  }
  return all;
}

void LmOptimizer::load(const NamedTensors& state) {
  c10::NoGradGuard no_grad;
  for (auto& [name, tensor] : this->state()) {
    const auto found =
        std::find_if(state.begin(), state.end(),
                     [&, &wanted = name](const auto& entry) { return entry.first == wanted; });
    if (found == state.end() || found->second.sizes() != tensor.sizes()) {
      throw Error({.code = ExitCode::kInput,
                   .where = "optimizer state",
                   .what = "does not fit this model",
                   .got = found == state.end() ? cat("no ", name) : cat(name, " of another shape"),
                   .remedy = "start again without resuming"});
    }
    tensor.copy_(found->second);
  }
}

}  // namespace kvlingua
