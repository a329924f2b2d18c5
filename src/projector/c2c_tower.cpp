#include "kvlingua/projector/c2c_tower.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <limits>

#include "kvlingua/base/random.h"
#include "kvlingua/kernels/mlp_block.h"
#include "kvlingua/kernels/rms_norm.h"

namespace kvlingua {
namespace {

constexpr double kNormEps = mlp_block::kEps;
constexpr int64_t kTowerGroups = 7;  // of recomputed towers; each is a seventh of their activations

// Every weight in one fixed order; undefined ones left out.
std::vector<at::Tensor> list_of(const TowerStack& s) {
  std::vector<at::Tensor> all{s.in_weight,     s.in_bias,     s.common.norm, s.common.w1,
                              s.common.w2,     s.scalar.norm, s.scalar.w1,   s.scalar.w2,
                              s.scalar_weight, s.scalar_bias};
  for (const TowerBlock& b : s.projection) all.insert(all.end(), {b.norm, b.w1, b.w2});
  all.insert(all.end(), {s.out_weight, s.out_bias});
  std::erase_if(all, [](const at::Tensor& t) { return !t.defined(); });
  return all;
}

TowerStack stack_of(const std::vector<at::Tensor>& all, bool scored) {
  size_t i = 0;
  const auto block = [&] {
    i += 3;
    return TowerBlock{all[i - 3], all[i - 2], all[i - 1]};
  };
  TowerStack s;
  s.in_weight = all[i++];
  s.in_bias = all[i++];
  s.common = block();
  if (scored) {
    s.scalar = block();
    s.scalar_weight = all[i++];
    s.scalar_bias = all[i++];
  }
  while (i + 2 < all.size()) s.projection.push_back(block());
  s.out_weight = all[i++];
  s.out_bias = all[i++];
  return s;
}

mlp_block::Weights tower_of(const TowerBlock& b, int64_t g) {
  return {b.norm[g], b.w1[g], b.w2[g]};
}

// What the way back of one tower needs.
struct TowerSaved {
  at::Tensor x, hidden, scored, last;
  mlp_block::Saved common, scalar;
  std::vector<mlp_block::Saved> projection;
};

struct Call : torch::CustomClassHolder {
  TowerStack stack;
  double dropout = 0;
  uint64_t seed = 0;
  bool recompute = false;
  std::vector<TowerSaved> saved;

  mlp_block::Dropout drop(int64_t tower, uint64_t block) const {
    return {dropout, mix(mix(seed, static_cast<uint64_t>(tower)), block)};
  }
};

// `keep`: for the way back. `out`: none when only what is kept is wanted.
TowerSaved forward_tower(const Call& call, const at::Tensor& x, int64_t g, bool keep,
                         const TowerOutput* out) {
  const TowerStack& s = call.stack;
  TowerSaved saved;
  const auto room = [&](mlp_block::Saved& of) { return keep ? &of : nullptr; };
  saved.x = x;
  const at::Tensor begin = mlp_block::linear(saved.x, s.in_weight[g], s.in_bias[g]);
  saved.hidden =
      mlp_block::forward(tower_of(s.common, g), begin, call.drop(g, 0), room(saved.common));
  saved.last = saved.hidden;
  saved.projection.resize(s.projection.size());
  for (size_t i = 0; i < s.projection.size(); ++i) {
    saved.last = mlp_block::forward(tower_of(s.projection[i], g), saved.last, call.drop(g, 2 + i),
                                    room(saved.projection[i]));
  }
  if (out != nullptr)
    out->projected[g].copy_(mlp_block::linear(saved.last, s.out_weight[g], s.out_bias[g]));
  if (s.scalar_weight.defined()) {
    saved.scored = mlp_block::forward(tower_of(s.scalar, g), saved.hidden, call.drop(g, 1),
                                      room(saved.scalar));
    if (out != nullptr)
      out->score[g].copy_(mlp_block::linear(saved.scored, s.scalar_weight[g], s.scalar_bias[g]));
  }
  return saved;
}

// Of recomputed towers only those in work are there.
void backward_tower(const Call& call, const TowerSaved& kept, const at::Tensor& d_projected,
                    const at::Tensor& d_score, const TowerStack& into, const at::Tensor& dx,
                    int64_t g) {
  const TowerStack& s = call.stack;
  const TowerSaved saved = call.recompute ? forward_tower(call, kept.x, g, true, nullptr) : kept;
  at::Tensor d = mlp_block::linear_backward(saved.last, s.out_weight[g], d_projected[g],
                                            into.out_weight[g], into.out_bias[g], true);
  for (size_t i = s.projection.size(); i-- > 0;) {
    d = mlp_block::backward(tower_of(s.projection[i], g), saved.projection[i], call.drop(g, 2 + i),
                            d, tower_of(into.projection[i], g));
  }
  if (d_score.defined()) {
    const at::Tensor d_scored =
        mlp_block::linear_backward(saved.scored, s.scalar_weight[g], d_score[g],
                                   into.scalar_weight[g], into.scalar_bias[g], true);
    d.add_(mlp_block::backward(tower_of(s.scalar, g), saved.scalar, call.drop(g, 1), d_scored,
                               tower_of(into.scalar, g)));
  }
  d = mlp_block::backward(tower_of(s.common, g), saved.common, call.drop(g, 0), d,
                          tower_of(into.common, g));
  const at::Tensor dx_g = mlp_block::linear_backward(saved.x, s.in_weight[g], d, into.in_weight[g],
                                                     into.in_bias[g], dx.defined());
  if (dx.defined()) dx[g].copy_(dx_g);
}

// One tower a thread; what runs inside sees a parallel region and stays on its thread.
template <class F>
void each_tower(int64_t towers, F body) {
  at::parallel_for(0, towers, 1, [&](int64_t begin, int64_t end) {
    const c10::NoGradGuard no_grad;
    for (int64_t g = begin; g < end; ++g) body(g);
  });
}

// Where the gradients of a node's weights go: straight into grad() where that is there, else into
// tensors that are handed to autograd.
struct WeightGradients {
  std::vector<at::Tensor> into, returned;

  explicit WeightGradients(const std::vector<at::Tensor>& weights) {
    for (const at::Tensor& w : weights) {
      const bool in_place = w.is_leaf() && w.grad().defined() && w.grad().is_contiguous();
      into.push_back(in_place ? w.grad() : at::zeros_like(w));
      returned.push_back(in_place ? at::Tensor() : into.back());
    }
  }
  // Of the node's inputs: what it was called with, x, the weights.
  torch::autograd::variable_list result(const at::Tensor& dx) const {
    torch::autograd::variable_list all{at::Tensor(), dx};
    all.insert(all.end(), returned.begin(), returned.end());
    return all;
  }
};

class Towers : public torch::autograd::Function<Towers> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const c10::intrusive_ptr<Call>& call,
                                                const at::Tensor& x, at::TensorList weights) {
    (void)weights;  // inputs of the node, read through call->stack
    context->saved_data["call"] = at::IValue::make_capsule(call);
    const int64_t towers = x.size(0), rows = x.size(1);
    call->saved.resize(static_cast<size_t>(towers));
    TowerOutput out{at::empty({towers, rows, call->stack.out_weight.size(1)}, x.options()), {}};
    if (call->stack.scalar_weight.defined())
      out.score = at::empty({towers, rows, call->stack.scalar_weight.size(1)}, x.options());
    each_tower(towers, [&](int64_t g) {
      TowerSaved kept = forward_tower(*call, x[g], g, !call->recompute, &out);
      call->saved[static_cast<size_t>(g)] = call->recompute ? TowerSaved{.x = kept.x} : kept;
    });
    if (!out.score.defined()) return {out.projected};
    return {out.projected, out.score};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto call =
        c10::static_intrusive_pointer_cast<Call>(context->saved_data["call"].toCapsule());
    const TowerStack& s = call->stack;
    const bool scored = s.scalar_weight.defined();
    const WeightGradients sums(list_of(s));
    at::Tensor d_score;
    if (scored)
      d_score =
          gradients[1].defined()
              ? gradients[1].contiguous()
              : at::zeros({s.in_weight.size(0), call->saved[0].x.size(0), s.scalar_weight.size(1)},
                          s.in_weight.options().requires_grad(false));
    const at::Tensor d_projected =
        gradients[0].defined()
            ? gradients[0].contiguous()
            : at::zeros({s.in_weight.size(0), call->saved[0].x.size(0), s.out_weight.size(1)},
                        s.in_weight.options().requires_grad(false));
    at::Tensor dx;
    if (context->needs_input_grad(0)) {
      dx = at::empty({s.in_weight.size(0), call->saved[0].x.size(0), s.in_weight.size(2)},
                     d_projected.options());
    }
    const TowerStack into = stack_of(sums.into, scored);
    each_tower(s.in_weight.size(0), [&](int64_t g) {
      backward_tower(*call, call->saved[static_cast<size_t>(g)], d_projected, d_score, into, dx, g);
    });
    return sums.result(dx);
  }
};

at::Tensor block(const TowerBlock& b, const at::Tensor& x, double dropout) {
  const at::Tensor inner =
      at::gelu(at::bmm(rms_norm_groups(x, b.norm, kNormEps), b.w1.transpose(1, 2)));
  const at::Tensor w2 = b.w2.transpose(1, 2);
  if (dropout == 0.0) return at::baddbmm(x, inner, w2);
  return x + at::dropout(at::bmm(inner, w2), dropout, /*train=*/true);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) {
  return at::baddbmm(b.unsqueeze(1), x, w.transpose(1, 2));
}

}  // namespace

TowerOutput run_towers_formula(const TowerStack& s, const at::Tensor& x, double dropout) {
  const at::Tensor hidden = block(s.common, linear(x, s.in_weight, s.in_bias), dropout);
  TowerOutput out;
  out.projected = hidden;
  for (const TowerBlock& b : s.projection) out.projected = block(b, out.projected, dropout);
  out.projected = linear(out.projected, s.out_weight, s.out_bias);
  if (s.scalar_weight.defined())
    out.score = linear(block(s.scalar, hidden, dropout), s.scalar_weight, s.scalar_bias);
  return out;
}

namespace {

// Towers run by the formula, a group at a time, of which nothing but the inputs is kept.
struct Groups : torch::CustomClassHolder {
  std::vector<at::Tensor> weights;  // list_of
  bool scored = false;
  double dropout = 0;
  at::Tensor generator_state;  // before the first group; undefined: nothing is drawn

  int64_t towers() const { return weights.front().size(0); }
  // Calls body(begin, count) for every group, in order.
  template <class F>
  void each(F body) const {
    const int64_t all = towers(), size = (all + kTowerGroups - 1) / kTowerGroups;
    for (int64_t begin = 0; begin < all; begin += size) body(begin, std::min(size, all - begin));
  }
  TowerOutput run(const std::vector<at::Tensor>& part, const at::Tensor& x) const {
    return run_towers_formula(stack_of(part, scored), x, dropout);
  }
};

const at::Generator& generator_of(const at::Tensor& x) {
  return at::globalContext().defaultGenerator(x.device());
}

class GroupedTowers : public torch::autograd::Function<GroupedTowers> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const c10::intrusive_ptr<Groups>& groups,
                                                const at::Tensor& x, at::TensorList weights) {
    (void)weights;  // inputs of the node, read through groups->weights
    context->saved_data["groups"] = at::IValue::make_capsule(groups);
    context->save_for_backward({x});
    if (groups->dropout > 0) groups->generator_state = generator_of(x).get_state();
    std::vector<at::Tensor> projected, score;
    groups->each([&](int64_t begin, int64_t count) {
      std::vector<at::Tensor> part;
      for (const at::Tensor& w : groups->weights) part.push_back(w.narrow(0, begin, count));
      const TowerOutput out = groups->run(part, x.narrow(0, begin, count));
      projected.push_back(out.projected);
      if (groups->scored) score.push_back(out.score);
    });
    if (!groups->scored) return {at::cat(projected)};
    return {at::cat(projected), at::cat(score)};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto groups =
        c10::static_intrusive_pointer_cast<Groups>(context->saved_data["groups"].toCapsule());
    const at::Tensor x = context->get_saved_variables()[0];
    const bool wants_x = context->needs_input_grad(0);
    at::Tensor now, dx;
    if (groups->generator_state.defined()) {  // the same noise again
      now = generator_of(x).get_state();
      at::Generator(generator_of(x)).set_state(groups->generator_state);
    }
    const WeightGradients sums(groups->weights);
    if (wants_x) dx = at::empty_like(x);
    groups->each([&](int64_t begin, int64_t count) {
      torch::autograd::variable_list inputs, outputs, wanted;
      for (const at::Tensor& w : groups->weights)
        inputs.push_back(w.narrow(0, begin, count).detach().requires_grad_(true));
      const std::vector<at::Tensor> part(inputs.begin(), inputs.end());
      const at::Tensor again = x.narrow(0, begin, count).detach().requires_grad_(wants_x);
      if (wants_x) inputs.push_back(again);
      {
        const at::AutoGradMode grad(true);
        const TowerOutput out = groups->run(part, again);
        const at::Tensor all[] = {out.projected, out.score};
        for (size_t i = 0; i < gradients.size(); ++i) {
          if (!gradients[i].defined()) continue;
          outputs.push_back(all[i]);
          wanted.push_back(gradients[i].narrow(0, begin, count));
        }
      }
      const auto found = torch::autograd::grad(outputs, inputs, wanted, std::nullopt, false,
                                               /*allow_unused=*/true);
      for (size_t i = 0; i < sums.into.size(); ++i)
        if (found[i].defined()) sums.into[i].narrow(0, begin, count).add_(found[i]);
      if (!wants_x) return;
      found.back().defined() ? dx.narrow(0, begin, count).copy_(found.back())
                             : dx.narrow(0, begin, count).zero_();
    });
    if (now.defined()) at::Generator(generator_of(x)).set_state(now);
    return sums.result(dx);
  }
};

}  // namespace

TowerOutput run_towers_in_groups(const TowerStack& s, const at::Tensor& x, double dropout) {
  const auto groups = c10::make_intrusive<Groups>();
  groups->weights = list_of(s);
  groups->scored = s.scalar_weight.defined();
  groups->dropout = dropout;
  const auto out = GroupedTowers::apply(groups, x, at::TensorList(groups->weights));
  return {out[0], out.size() > 1 ? out[1] : at::Tensor()};
}

TowerOutput run_towers(const TowerStack& s, const at::Tensor& x, double dropout, bool recompute) {
  // The dropout counter numbers a tower's elements with 32 bits.
  const bool served = x.is_cpu() && x.scalar_type() == at::kFloat && x.numel() > 0 &&
                      x.size(1) * s.in_weight.size(1) < std::numeric_limits<uint32_t>::max();
  if (!served)
    return recompute ? run_towers_in_groups(s, x, dropout) : run_towers_formula(s, x, dropout);
  auto call = c10::make_intrusive<Call>();
  call->stack = s;
  call->dropout = dropout;
  call->recompute = recompute;
  if (dropout > 0) {  // one draw of torch's generator, so that checkpoints repeat it
    call->seed = static_cast<uint64_t>(
        at::randint(std::numeric_limits<int64_t>::max(), {1}, at::kLong).item<int64_t>());
  }
  const std::vector<at::Tensor> weights = list_of(s);
  bool differentiable = x.requires_grad();
  for (const at::Tensor& w : weights) differentiable = differentiable || w.requires_grad();
  const at::Tensor inputs = x.contiguous();
  if (differentiable && c10::GradMode::is_enabled()) {
    const auto out = Towers::apply(call, inputs, at::TensorList(weights));
    return {out[0], out.size() > 1 ? out[1] : at::Tensor()};
  }
  TowerOutput out{at::empty({x.size(0), x.size(1), s.out_weight.size(1)}, x.options()), {}};
  if (s.scalar_weight.defined())
    out.score = at::empty({x.size(0), x.size(1), s.scalar_weight.size(1)}, x.options());
  each_tower(x.size(0), [&](int64_t g) { forward_tower(*call, inputs[g], g, false, &out); });
  return out;
}

}  // namespace kvlingua
