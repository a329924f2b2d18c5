// Which layers at which tokens a ridge map reads under a budget.
#include "kvlingua/projector/ridge_choice.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/ridge.h"

namespace kvlingua {
namespace {

const KvShape kSource{4, 1, 4}, kTarget{1, 1, 4};

// A text's cache, and the target's: values of layer 2 two tokens before, and half as much of the
// keys of layer 3 at the token itself.
struct Planted {
  KvCache read;
  CacheRows wanted;
};

Planted planted(uint64_t seed, int64_t tokens) {
  at::manual_seed(seed);
  const std::vector<int64_t> sizes{4, 1, 1, tokens, 4};
  const KvCache read(at::randn(sizes), at::randn(sizes), at::arange(tokens).unsqueeze(0),
                     std::nullopt);
  const at::Tensor late = read.values()[2][0][0].roll(2, 0), own = read.keys()[3][0][0];
  const at::Tensor y = (late + own / 2 + 0.1 * at::randn({tokens, 4})).view({tokens, 1, 1, 4});
  return {read, {y, 2 * y + 1}};
}

RidgeOptions options_of(std::vector<int64_t> layers, int64_t budget) {
  RidgeOptions options;
  options.features = "both";
  options.previous_tokens = 3;
  options.previous_layers = std::move(layers);
  options.budget = budget;
  options.lambda = {1e-6};
  return options;
}

struct Fit {
  RidgeSolution solution;
  double r2;  // of new rows
  int64_t features;
};

Fit fit(const RidgeOptions& options) {
  const auto rows = [&](const Planted& p) {
    return std::pair{rows_of(p.read, {}, previous_tokens(options)).slice(3, 1200),
                     p.wanted.slice(3, 1200)};
  };
  const auto sums_of = [&](uint64_t seed) {
    RidgeSums sums(row_shape(kSource, previous_tokens(options)), kTarget, true, at::kCPU,
                   ridge_candidates(options, kSource));
    const auto [source, target] = rows(planted(seed, 1200));
    sums.add(source, target);
    return sums;
  };
  const RidgeSums train = sums_of(1), heldout = sums_of(2);
  Fit out{.solution = solve_ridge(train, &heldout, options)};
  RidgeProjector ridge(kSource, kTarget, options);
  ridge.adopt(out.solution);
  // As it comes back from a checkpoint.
  const auto again = projector_from_config(ridge.config(), "test");
  again->load_state(by_name(ridge.state()), "test");
  const auto [source, target] = rows(planted(3, 1200));
  const at::Tensor error = again->translate_rows(source).values_NLHD - target.values_NLHD;
  out.r2 = 1 - (error.square().mean() / target.values_NLHD.var()).item<double>();
  out.features = ridge.plan().in_width();
  return out;
}

TEST(RidgeChoice, FindsTheLayerAndTheTokenOfTheFact) {
  const Fit both = fit(options_of({0, 2}, 2));
  // Layer 4 + (2 - 1) * 2 + 1 is layer 2 two tokens before; layer 3 is the token's own.
  EXPECT_EQ(both.solution.chosen, (std::vector<int64_t>{7, 3}));
  EXPECT_EQ(both.features, 2 * 2 * 4);
  EXPECT_GT(both.r2, 0.98);
  const Fit one = fit(options_of({0, 2}, 1));
  EXPECT_EQ(one.solution.chosen, (std::vector<int64_t>{7}));
  EXPECT_NEAR(one.r2, 0.8, 0.03);
  // The tokens before by their first layer alone, as many as there are: the fact is not there.
  const Fit first = fit(options_of({0}, 0));
  EXPECT_LT(first.r2, 0.3);
  EXPECT_EQ(first.features, 2 * 7 * 4);
  EXPECT_TRUE(first.solution.chosen.empty());
}

TEST(RidgeChoice, ABudgetOfAllIsAll) {
  const Fit all = fit(options_of({0, 2}, 10)), none = fit(options_of({0, 2}, 0));
  EXPECT_TRUE(all.solution.weight.equal(none.solution.weight));
  EXPECT_EQ(all.features, none.features);
}

RidgeMoments moments(const at::Tensor& x, const at::Tensor& y) {
  const double n = static_cast<double>(x.size(0));
  return {at::mm(x.t(), x) / n, at::mm(x.t(), y) / n, y.square().mean(0)};
}

// Every R2 on the way is that of the least squares over all blocks taken so far, and every block
// the one that gives the best.
TEST(RidgeChoice, IsGreedyLeastSquares) {
  at::manual_seed(7);
  constexpr int64_t kWidth = 2, kBlocks = 5, kRows = 400;
  const at::Tensor mixing = at::randn({kWidth * kBlocks, kWidth * kBlocks}, at::kDouble),
                   map = at::randn({kWidth * kBlocks, 3}, at::kDouble);
  const auto draw = [&] {
    const at::Tensor x = at::mm(at::randn({kRows, kWidth * kBlocks}, at::kDouble), mixing);
    return std::pair{x, at::mm(x, map) + 4 * at::randn({kRows, 3}, at::kDouble)};
  };
  const auto [x, y] = draw();
  const auto [held_x, held_y] = draw();
  const BlockChoice got =
      choose_blocks({moments(x, y)}, {moments(held_x, held_y)}, kWidth, 1, 4, 1e-12);
  std::vector<int64_t> taken;
  for (size_t round = 0; round < 4; ++round) {
    double best = -1e9;
    int64_t which = -1;
    for (int64_t b = 0; b < kBlocks; ++b) {
      if (std::find(taken.begin(), taken.end(), b) != taken.end()) continue;
      std::vector<at::Tensor> index;
      for (const int64_t one : taken) index.push_back(at::arange(kWidth) + one * kWidth);
      index.push_back(at::arange(kWidth) + b * kWidth);
      const at::Tensor columns = at::cat(index), sub = x.index_select(1, columns);
      const at::Tensor w = at::linalg_solve(at::mm(sub.t(), sub), at::mm(sub.t(), y));
      const at::Tensor error = at::mm(held_x.index_select(1, columns), w) - held_y;
      const double r2 = 1 - (error.square().sum() / held_y.square().sum()).item<double>();
      if (r2 > best) best = r2, which = b;
    }
    taken.push_back(which);
    EXPECT_EQ(got.blocks[round], which) << "round " << round;
    EXPECT_NEAR(got.r2[round], best, 1e-9) << "round " << round;
  }
}

TEST(RidgeChoice, TakesAnotherLayerRatherThanTheSameTwice) {
  at::manual_seed(9);
  const at::Tensor a = at::randn({500, 3}, at::kDouble), b = at::randn({500, 3}, at::kDouble);
  // Block 1 says what block 0 says, less clearly; each alone says more of the target than block 2.
  const at::Tensor x = at::cat({a, a + 0.1 * at::randn({500, 3}, at::kDouble), b}, 1);
  const RidgeMoments m = moments(x, a + b / 4);
  const BlockChoice got = choose_blocks({m}, {m}, 3, 1, 2, 1e-9);
  EXPECT_EQ(got.blocks, (std::vector<int64_t>{0, 2}));
}

}  // namespace
}  // namespace kvlingua
