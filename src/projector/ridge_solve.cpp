#include "kvlingua/projector/ridge_solve.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "kvlingua/base/error.h"
#include "kvlingua/projector/ridge_choice.h"

namespace kvlingua {
namespace {

// One linear system on standardised channels: C [F, F], P [F, E]; the held-out twins about the
// training mean, and the held-out sum of squares of each target.
struct System {
  at::Tensor c, p, y;
  at::Tensor heldout_c, heldout_p, heldout_y;
};

// `spent`: the sums are not needed any more, so what they hold is overwritten. With many channels
// every copy of them is gigabytes.
RidgeMoments standardise(const RidgeSums& sums, int64_t problem, const at::Tensor& deviation_x,
                         const at::Tensor& deviation_y, bool spent) {
  const double n = static_cast<double>(sums.count());
  const auto mine = [&](const at::Tensor& all) {
    return spent ? all[problem] : all[problem].clone();
  };
  const at::Tensor x = deviation_x.unsqueeze(1);
  return {mine(sums.gram()).div_(x).div_(deviation_x.unsqueeze(0)).div_(n),
          mine(sums.cross()).div_(x).div_(deviation_y.unsqueeze(0)).div_(n),
          mine(sums.square_y()).div_(deviation_y.square()).div_(n)};
}

// The channels of `index` of a symmetric matrix.
at::Tensor square_of(const at::Tensor& m, const at::Tensor& index) {
  return m.index({index.unsqueeze(1), index});
}

double mean_diagonal(const at::Tensor& c) { return c.diagonal().mean().item<double>(); }

// Held-out squared error of every target, [E], of W given in the basis where c is diagonal.
at::Tensor heldout_error(const at::Tensor& w, const at::Tensor& c, const at::Tensor& p,
                         const at::Tensor& y) {
  return y - 2 * (w * p).sum(0) + (w * at::mm(c, w)).sum(0);
}

// (C + lambda * scale * I)^-1 P. Notes when Cholesky fails and eigenvalues are clipped instead.
at::Tensor solve_one(const at::Tensor& c, const at::Tensor& p, double lambda,
                     const std::string& what, std::vector<std::string>& notes) {
  const double shift = lambda * mean_diagonal(c);
  at::Tensor shifted = c.clone();
  shifted.diagonal().add_(shift);
  const auto [factor, info] = at::linalg_cholesky_ex(shifted);
  if (info.item<int32_t>() == 0) return at::cholesky_solve(p, factor);
  const auto [values, vectors] = at::linalg_eigh(c);
  const double epsilon = c.scalar_type() == at::kDouble ? 2.2e-16 : 1.2e-7;
  const double floor = epsilon * static_cast<double>(c.size(0)) * values.abs().max().item<double>();
  const at::Tensor damped = values.clamp_min(0) + shift;
  const at::Tensor inverse =
      at::where(damped > floor, damped.reciprocal(), at::zeros_like(damped)).unsqueeze(1);
  notes.push_back(cat("ridge: ", what, ": Cholesky failed at lambda ", lambda,
                      "; solved with eigenvalues below ", floor, " dropped"));
  return at::mm(vectors, inverse * at::mm(vectors.t(), p));
}

// r^-power of every target, [E], with r = cov(yhat, y) / var(y) of W on rows with these moments. A
// channel that is hardly predicted is not blown up.
at::Tensor attenuation_gain(const at::Tensor& w, const at::Tensor& p, const at::Tensor& y,
                            double power) {
  constexpr double kLeast = 0.25;
  const at::Tensor r = (w * p).sum(0) / y.clamp_min(1e-12);
  return r.clamp(kLeast, 1).pow(-power);
}

// What a grid of lambdas gives on the held-out part: for each of `segments` equal runs of targets
// the index of its best lambda, its weights [F, E] and its squared error,
// there and on its own rows.
struct Choice {
  at::Tensor lambda, weight, error, fitted_error;
};

// A factorisation for each lambda: a third of F^3 products, where one eigendecomposition takes more
// than twenty times that.
Choice choose_lambda(const System& s, const std::vector<double>& grid, int64_t segments,
                     const std::string& what, std::vector<std::string>& notes) {
  Choice best{.lambda = at::zeros({segments}, at::kLong)};
  const int64_t width = s.p.size(1) / segments;
  for (size_t l = 0; l < grid.size(); ++l) {
    at::Tensor weight = solve_one(s.c, s.p, grid[l], what, notes);
    const at::Tensor error =
        heldout_error(weight, s.heldout_c, s.heldout_p, s.heldout_y).view({segments, -1}).sum(1);
    if (l == 0) {
      best.weight = std::move(weight);
      best.error = error;
      continue;
    }
    const at::Tensor better = (error < best.error).nonzero().flatten();
    if (better.numel() == 0) continue;
    best.lambda.index_fill_(0, better.to(at::kCPU), static_cast<int64_t>(l));
    best.error = at::minimum(error, best.error);
    const at::Tensor columns =
        (better.unsqueeze(1) * width + at::arange(width, better.options())).flatten();
    best.weight.index_copy_(1, columns, weight.index_select(1, columns));
  }
  best.fitted_error = heldout_error(best.weight, s.c, s.p, s.y).view({segments, -1}).sum(1);
  return best;
}

// Error of the map from source layer s alone to each target layer: [Ls, Lt], for one part. Lower is
// better.
at::Tensor single_layer_errors(const RidgeMoments& train, const RidgeMoments& judge,
                               const KvShape& source, const KvShape& target, int64_t part,
                               bool joint, double lambda, std::vector<std::string>& notes) {
  const int64_t width = source.width(), columns = target.layers * target.width();
  const at::Tensor channel = at::arange(width, train.c.options().dtype(at::kLong));
  std::vector<at::Tensor> rows;
  for (int64_t s = 0; s < source.layers; ++s) {
    at::Tensor index = channel + s * width;
    if (joint) index = at::cat({index, index + source.layers * width});
    const int64_t first = joint ? part * columns : 0;
    const auto block = [&](const at::Tensor& m) { return square_of(m, index); };
    const auto cross = [&](const at::Tensor& m) {
      return m.narrow(1, first, columns).index_select(0, index);
    };
    const at::Tensor w = solve_one(block(train.c), cross(train.p), lambda,
                                   cat("choosing layers, source layer ", s), notes);
    rows.push_back(
        heldout_error(w, block(judge.c), cross(judge.p), judge.y.narrow(0, first, columns))
            .view({target.layers, -1})
            .sum(1));
  }
  return at::stack(rows);
}

// The source layers each target layer reads, [2, Lt, k] on the CPU; undefined when it reads all
// there are.
at::Tensor choose_layers(const std::vector<RidgeMoments>& fit,
                         const std::vector<RidgeMoments>& judge, const KvShape& source,
                         const KvShape& target, bool joint, const RidgeOptions& options,
                         std::vector<std::string>& notes) {
  const int64_t k = options.source_layers;
  if (k == 0 || k >= source.layers) return {};
  if (options.selection == "aligned") return aligned_layers(source.layers, target.layers, k);
  const double lambda = options.lambda[options.lambda.size() / 2];
  std::vector<at::Tensor> parts;
  for (int64_t part = 0; part < 2; ++part) {
    const size_t problem = joint ? 0 : static_cast<size_t>(part);
    const at::Tensor errors = single_layer_errors(fit[problem], judge[problem], source, target,
                                                  part, joint, lambda, notes);
    parts.push_back(std::get<1>(errors.t().topk(k, -1, /*largest=*/false)));
  }
  return at::stack(parts).to(at::kCPU);
}

// The layers of the sums that are read at all, in order.
std::vector<int64_t> read_layers(const std::vector<RidgeMoments>& fit,
                                 const std::vector<RidgeMoments>& judge, const RidgeSums& sums,
                                 const RidgeOptions& options, RidgeSolution& solution) {
  const auto all = static_cast<int64_t>(sums.candidates().size());
  if (options.budget == 0 || options.budget >= all) return evenly_spaced(0, all);
  BlockChoice choice = choose_blocks(fit, judge, sums.source_shape().width(), sums.joint() ? 2 : 1,
                                     options.budget, options.lambda[options.lambda.size() / 2]);
  solution.choice_r2 = choice.r2;
  for (const int64_t block : choice.blocks)
    solution.chosen.push_back(sums.candidates()[static_cast<size_t>(block)]);
  std::sort(choice.blocks.begin(), choice.blocks.end());
  return choice.blocks;
}

void check(const RidgeSums& train, const RidgeSums* heldout, const RidgeOptions& options) {
  if (train.count() < 2) {
    throw Error({.code = ExitCode::kInput,
                 .where = "ridge",
                 .what = "too few rows to fit",
                 .got = cat(train.count()),
                 .expected = "at least 2",
                 .remedy = "generate more pairs"});
  }
  if (options.lambda.size() > 1 && (heldout == nullptr || heldout->count() == 0)) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "projector.ridge.lambda",
                 .what = "several values and nothing held out to choose by",
                 .got = cat(options.lambda.size(), " values"),
                 .expected = "one value, or held-out samples",
                 .remedy = "set projector.ridge.holdout above 0"});
  }
}

// Standard units of both sides, rounded to what the projector will hold, so that only the means'
// rounding is left, and that goes into the bias.
struct StandardUnits {
  explicit StandardUnits(const RidgeSums& all);
  at::Tensor deviation_x, deviation_y;
  at::Tensor offset_x, offset_y;  // of the means by their rounding
};

StandardUnits::StandardUnits(const RidgeSums& all) {
  const double n = static_cast<double>(all.count());
  const auto rounded = [](const at::Tensor& t) { return t.to(at::kFloat).to(at::kDouble); };
  deviation_x = rounded(safe_deviation(all.gram().diagonal(0, 1, 2) / n, all.mean_x()));
  deviation_y = rounded(safe_deviation(all.square_y() / n, all.mean_y()));
  offset_x = (rounded(all.mean_x()) - all.mean_x()) / deviation_x;
  offset_y = (rounded(all.mean_y()) - all.mean_y()) / deviation_y;
}

// What the projector whitens by; layers that are no candidates stay as they are.
void keep_statistics(const RidgeSums& all, const StandardUnits& units, RidgeSolution& solution) {
  const KvShape &source = all.source_shape(), &target = all.target_shape();
  const auto channels = [](const at::Tensor& t, int64_t layers, const KvShape& shape) {
    return t.reshape({2, layers, shape.kv_heads, shape.head_dim}).to(at::kFloat);
  };
  const auto candidates = static_cast<int64_t>(all.candidates().size());
  const at::Tensor index = at::tensor(all.candidates(), at::kLong).to(all.device());
  solution.source = ChannelStatistics::identity(source).to(all.device());
  solution.source.mean.index_copy_(1, index, channels(all.mean_x(), candidates, source));
  solution.source.deviation.index_copy_(1, index, channels(units.deviation_x, candidates, source));
  solution.target = {channels(all.mean_y(), target.layers, target),
                     channels(units.deviation_y, target.layers, target)};
}

// Moments in standard units, by problem: of the fitted rows, of the held-out ones (where there are
// none: the fitted) and of all.
struct Moments {
  Moments(const RidgeSums& train, const std::optional<RidgeSums>& apart, const RidgeSums& all,
          const StandardUnits& units);
  std::vector<RidgeMoments> fit, judge, full;
};

Moments::Moments(const RidgeSums& train, const std::optional<RidgeSums>& apart,
                 const RidgeSums& all, const StandardUnits& units) {
  for (int64_t problem = 0; problem < train.problems(); ++problem) {
    const auto standard = [&](const RidgeSums& sums, bool spent) {
      return standardise(sums, problem, units.deviation_x[problem], units.deviation_y[problem],
                         spent);
    };
    full.push_back(standard(all, true));
    fit.push_back(apart ? standard(train, false) : full.back());
    judge.push_back(apart ? standard(*apart, true) : full.back());
  }
}

// Which blocks each group reads: of the candidates, whose layers alone the sums have. The plan that
// `solution` keeps is of the model's layers.
BlockPlan plan_blocks(const Moments& moments, const RidgeSums& train, const RidgeOptions& options,
                      RidgeSolution& solution) {
  const KvShape &model = train.source_shape(), &target = train.target_shape();
  const KvShape source{static_cast<int64_t>(train.candidates().size()), model.kv_heads,
                       model.head_dim};
  const at::Tensor layers = choose_layers(moments.fit, moments.judge, source, target, train.joint(),
                                          options, solution.notes);
  const std::vector<int64_t> read =
      read_layers(moments.fit, moments.judge, train, options, solution);
  std::vector<int64_t> model_read;
  for (const int64_t layer : read)
    model_read.push_back(train.candidates()[static_cast<size_t>(layer)]);
  const at::Tensor model_layers =
      layers.defined() ? at::tensor(train.candidates(), at::kLong).index({layers}) : layers;
  const bool head_matched = options.layout == "head_matched";
  solution.plan =
      BlockPlan::make(model, target, train.joint(), head_matched, model_layers, model_read);
  return BlockPlan::make(source, target, train.joint(), head_matched, layers, read);
}

// The groups of a plan, one after the other: each chooses its lambdas by the held-out rows and is
// solved for from all.
class GroupSolver {
 public:
  GroupSolver(const Moments& moments, const BlockPlan& plan, const RidgeSums& train, bool judged,
              const StandardUnits& units, const RidgeOptions& options)
      : moments_(moments),
        plan_(plan),
        train_(train),
        judged_(judged),
        units_(units),
        options_(options),
        precision_(options.precision == "float32" ? at::kFloat : at::kDouble),
        segments_(std::max<int64_t>(1, plan.out_width() / train.target_shape().width())) {}

  void solve(int64_t group, std::vector<std::string>& notes);
  void finish(RidgeSolution& solution) const;

 private:
  // Where a group's columns and blocks lie in the moments of its problem.
  struct Place {
    int64_t part = 0;  // 0: keys, 1: values
    size_t problem = 0;
    int64_t first = 0;  // column
    at::Tensor index;   // rows
    std::string name;
  };
  Place place_of(int64_t group) const;
  at::Tensor square(const at::Tensor& m, const Place& place) const {
    return (plan_.contiguous() ? m : square_of(m, place.index)).to(precision_);
  }
  at::Tensor wide(const at::Tensor& m, const Place& place) const {
    const at::Tensor columns = m.narrow(1, place.first, plan_.out_width());
    return (plan_.contiguous() ? columns : columns.index_select(0, place.index)).to(precision_);
  }
  System system_of(const Place& place) const;
  // Each segment by the lambda that it chose.
  at::Tensor weight_of(const Place& place, const at::Tensor& chosen,
                       std::vector<std::string>& notes) const;
  at::Tensor gain_of(const System& system, const Choice& chosen, const at::Tensor& weight) const;
  void keep_errors(const System& system, const Choice& chosen);

  const Moments& moments_;
  const BlockPlan& plan_;
  const RidgeSums& train_;
  bool judged_;
  const StandardUnits& units_;
  const RidgeOptions& options_;
  at::ScalarType precision_;
  int64_t segments_;  // target layers in one group
  std::vector<at::Tensor> weights_, biases_, lambdas_, gains_, errors_, totals_, fitted_errors_,
      fitted_totals_;
};

GroupSolver::Place GroupSolver::place_of(int64_t group) const {
  const KvShape &source = train_.source_shape(), &target = train_.target_shape();
  const int64_t column = group * plan_.out_width(),
                target_channels = target.layers * target.width(),
                candidates = static_cast<int64_t>(train_.candidates().size());
  Place place{.part = column / target_channels};
  const int64_t before = train_.joint() ? 0 : place.part;  // problems before its own
  place.problem = static_cast<size_t>(before);
  place.first = column - before * target_channels;
  const at::Tensor blocks = plan_.select[group] - before * candidates * source.kv_heads;
  place.index = (blocks.unsqueeze(1) * source.head_dim + at::arange(source.head_dim))
                    .flatten()
                    .to(train_.device());
  place.name = cat(place.part == 0 ? "keys" : "values", ", group ", group);
  return place;
}

System GroupSolver::system_of(const Place& place) const {
  const RidgeMoments &fit = moments_.fit[place.problem], &judge = moments_.judge[place.problem];
  const auto own = [&](const at::Tensor& y) {
    return y.narrow(0, place.first, plan_.out_width()).to(precision_);
  };
  return {square(fit.c, place),   wide(fit.p, place),   own(fit.y),
          square(judge.c, place), wide(judge.p, place), own(judge.y)};
}

at::Tensor GroupSolver::weight_of(const Place& place, const at::Tensor& chosen,
                                  std::vector<std::string>& notes) const {
  const RidgeMoments& full = moments_.full[place.problem];
  const at::Tensor c = square(full.c, place), p = wide(full.p, place);
  at::Tensor weight = at::empty_like(p);
  const int64_t width = plan_.out_width() / segments_;
  for (size_t l = 0; l < options_.lambda.size(); ++l) {
    const at::Tensor mine = (chosen == static_cast<int64_t>(l)).nonzero().flatten();
    if (mine.numel() == 0) continue;
    const at::Tensor columns =
        (mine.unsqueeze(1) * width + at::arange(width)).flatten().to(train_.device());
    weight.index_copy_(
        1, columns,
        solve_one(c, p.index_select(1, columns), options_.lambda[l], place.name, notes));
  }
  return weight;
}

// Of every target, [E].
at::Tensor GroupSolver::gain_of(const System& system, const Choice& chosen,
                                const at::Tensor& weight) const {
  return judged_
             ? attenuation_gain(chosen.weight, system.heldout_p, system.heldout_y, options_.gain)
             : attenuation_gain(weight, system.p, system.y, options_.gain);
}

void GroupSolver::keep_errors(const System& system, const Choice& chosen) {
  const auto by_segment = [&](const at::Tensor& y) { return y.view({segments_, -1}).sum(1); };
  errors_.push_back(chosen.error);
  fitted_errors_.push_back(chosen.fitted_error);
  totals_.push_back(by_segment(system.heldout_y));
  fitted_totals_.push_back(by_segment(system.y));
}

void GroupSolver::solve(int64_t group, std::vector<std::string>& notes) {
  const Place place = place_of(group);
  const System system = system_of(place);
  const Choice chosen = judged_
                            ? choose_lambda(system, options_.lambda, segments_, place.name, notes)
                            : Choice{.lambda = at::zeros({segments_}, at::kLong)};
  at::Tensor weight = weight_of(place, chosen.lambda, notes);
  if (options_.gain > 0) {
    const at::Tensor gain = gain_of(system, chosen, weight);
    weight *= gain;
    gains_.push_back(gain.view({segments_, -1}).mean(1));
  }
  const auto problem = static_cast<int64_t>(place.problem);
  const at::Tensor offset_x = units_.offset_x[problem];
  const at::Tensor offset = plan_.contiguous() ? offset_x : offset_x.index_select(0, place.index);
  weights_.push_back(weight.to(at::kFloat));
  biases_.push_back(at::mv(weight.to(at::kDouble).t(), offset) -
                    units_.offset_y[problem].narrow(0, place.first, plan_.out_width()));
  lambdas_.push_back(at::tensor(options_.lambda, at::kDouble).index_select(0, chosen.lambda));
  if (judged_) keep_errors(system, chosen);
}

void GroupSolver::finish(RidgeSolution& solution) const {
  solution.weight = at::stack(weights_);
  solution.bias = at::stack(biases_).unsqueeze(1).to(at::kFloat);
  const auto by_layer = [&](const std::vector<at::Tensor>& values) {
    return at::cat(values).to(at::kCPU, at::kDouble).view({2, train_.target_shape().layers, -1});
  };
  solution.lambda = by_layer(lambdas_).mean(-1);
  if (options_.gain > 0) solution.gain = by_layer(gains_).mean(-1);
  solution.features = plan_.in_width();
  if (!judged_) return;
  const auto r2 = [&](const auto& wrong, const auto& of) {
    return 1 - by_layer(wrong).sum(-1) / by_layer(of).sum(-1);
  };
  solution.heldout_r2 = r2(errors_, totals_);
  solution.fitted_r2 = r2(fitted_errors_, fitted_totals_);
  // Errors of e (1 + x) and e (1 - x); the next one is e (1 + x / 2).
  solution.doubled_r2 = solution.heldout_r2 + (solution.fitted_r2 - solution.heldout_r2) / 4;
}

}  // namespace

at::Tensor aligned_layers(int64_t source_layers, int64_t target_layers, int64_t k) {
  std::vector<int64_t> chosen;
  for (int64_t t = 0; t < target_layers; ++t) {
    const double depth =
        target_layers > 1 ? static_cast<double>(t) / static_cast<double>(target_layers - 1) : 0;
    const double centre = depth * static_cast<double>(source_layers - 1);
    std::vector<int64_t> order(static_cast<size_t>(source_layers));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return std::abs(static_cast<double>(a) - centre) < std::abs(static_cast<double>(b) - centre);
    });
    for (int64_t i = 0; i < k; ++i) chosen.push_back(order[static_cast<size_t>(i % source_layers)]);
  }
  return at::tensor(chosen, at::kLong).view({1, target_layers, k}).repeat({2, 1, 1});
}

RidgeSolution solve_ridge(const RidgeSums& train, const RidgeSums* heldout,
                          const RidgeOptions& options) {
  check(train, heldout, options);
  const c10::NoGradGuard no_grad;
  const bool judged = heldout != nullptr && heldout->count() > 0;
  RidgeSolution solution;
  // All the data, for the map itself and for whitening; the held-out part only chooses.
  RidgeSums all = train.clone();
  std::optional<RidgeSums> apart;
  if (judged) {
    all.merge(*heldout);
    apart = heldout->about(train.mean_x(), train.mean_y());
  }
  solution.rows = all.count();
  const StandardUnits units(all);
  keep_statistics(all, units, solution);
  const Moments moments(train, apart, all, units);
  const BlockPlan plan = plan_blocks(moments, train, options, solution);
  GroupSolver groups(moments, plan, train, judged, units, options);
  for (int64_t g = 0; g < plan.groups(); ++g) groups.solve(g, solution.notes);
  groups.finish(solution);
  return solution;
}

}  // namespace kvlingua
