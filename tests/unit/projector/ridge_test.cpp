#include "kvlingua/projector/ridge.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "tests/support/synthetic_rows.h"

namespace kvlingua {
namespace {

using support::LinearPair;

double difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

void expect_equal_sums(const RidgeSums& got, const RidgeSums& expected, double tolerance) {
  const NamedTensors a = got.tensors(), b = expected.tensors();
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_LE(difference(a[i].second.to(at::kDouble), b[i].second.to(at::kDouble)), tolerance)
        << a[i].first;
  }
}

TEST(RidgeSums, MergeOfPartsAndRanksEqualsOnePass) {
  const LinearPair pair({3, 2, 4}, {2, 2, 6}, 3);
  // Blocks of exactly representable products keep float32 out of the comparison: the merge itself
  // is float64.
  const auto [source, target] = pair.rows(600, 1);
  RidgeSums whole(pair.source, pair.target, false), first(pair.source, pair.target, false),
      second(pair.source, pair.target, false);
  for (int64_t i = 0; i < 600; i += 100) {
    whole.add(source.slice(i, i + 100), target.slice(i, i + 100));
    (i < 200 ? first : second).add(source.slice(i, i + 100), target.slice(i, i + 100));
  }
  RidgeSums forward = first.clone(), backward = second.clone();
  forward.merge(second);
  backward.merge(first);
  expect_equal_sums(forward, whole, 1e-9);
  expect_equal_sums(backward, whole, 1e-9);
  EXPECT_EQ(forward.count(), 600);

  // ((a + b) + c) = (a + (b + c)): ranks may be reduced in any tree.
  std::vector<RidgeSums> three;
  for (int64_t r = 0; r < 3; ++r) {
    RidgeSums sums(pair.source, pair.target, true);
    sums.add(source.slice(200 * r, 200 * (r + 1)), target.slice(200 * r, 200 * (r + 1)));
    three.push_back(std::move(sums));
  }
  RidgeSums left = three[0].clone(), right = three[1].clone(), outer = three[0].clone();
  left.merge(three[1]);
  left.merge(three[2]);
  right.merge(three[2]);
  outer.merge(right);
  expect_equal_sums(left, outer, 1e-12);
}

TEST(RidgeSums, SurviveAFileAndRefuseAnother) {
  const LinearPair pair({2, 1, 4}, {2, 1, 4}, 3);
  const auto [source, target] = pair.rows(50, 1);
  RidgeSums sums(pair.source, pair.target, false);
  sums.add(source, target);
  std::map<std::string, at::Tensor> file;
  for (const auto& [name, tensor] : sums.tensors()) file[name] = tensor.clone();
  RidgeSums loaded(pair.source, pair.target, false);
  loaded.load(file, "sums.safetensors");
  expect_equal_sums(loaded, sums, 0);
  RidgeSums other({3, 1, 4}, pair.target, false);
  EXPECT_THROW(other.load(file, "sums.safetensors"), Error);
  EXPECT_THROW(other.merge(sums), Error);
}

TEST(RidgeSums, OfTheFirstLayersAlone) {
  const LinearPair pair({5, 2, 4}, {2, 2, 6}, 3);
  const auto [source, target] = pair.rows(300, 1);
  const auto first = [](const at::Tensor& t) { return t.narrow(1, 0, 3); };
  for (const bool joint : {false, true}) {
    RidgeSums wide(pair.source, pair.target, joint), narrow({3, 2, 4}, pair.target, joint);
    for (int64_t i = 0; i < 300; i += 100) {
      const CacheRows s = source.slice(i, i + 100), t = target.slice(i, i + 100);
      wide.add(s, t);
      narrow.add({first(s.keys_NLHD), first(s.values_NLHD)}, t);
    }
    expect_equal_sums(wide.first_layers(3), narrow, 1e-9);
  }
}

// What the target writes at a token is what the source's first layer held two tokens before it.
TEST(Ridge, FindsWhatThePreviousTokensHold) {
  at::manual_seed(5);
  const KvShape source{2, 1, 4}, target{1, 1, 4};
  const std::vector<int64_t> sizes{2, 1, 1, 400, 4};
  const at::Tensor positions = at::arange(400).unsqueeze(0);
  const KvCache read(at::randn(sizes), at::randn(sizes), positions, std::nullopt);
  const at::Tensor late = read.values()[0][0][0].roll(2, 0).unsqueeze(1).unsqueeze(1);
  const CacheRows wanted{late, late * 3 + 1};
  const auto error = [&](int64_t previous) {
    RidgeOptions options;
    options.lambda = {1e-6};
    options.features = "both";
    options.previous_tokens = previous;
    const auto tail = [](const CacheRows& rows) { return rows.slice(2, 400); };
    const CacheRows rows = tail(rows_of(read, {}, {previous}));
    RidgeSums sums(row_shape(source, {previous}), target, true, at::kCPU,
                   ridge_candidates(options, source));
    sums.add(rows, tail(wanted));
    RidgeProjector ridge(source, target, options);
    ridge.adopt(solve_ridge(sums, nullptr, options));
    return difference(ridge.translate_rows(rows).keys_NLHD, tail(wanted).keys_NLHD);
  };
  EXPECT_LT(error(2), 1e-3);
  EXPECT_GT(error(1), 0.5);
  EXPECT_GT(error(0), 0.5);
}

TEST(RidgeSums, LargeMeansDoNotCancel) {
  LinearPair pair({2, 1, 4}, {2, 1, 4}, 3);
  auto [source, target] = pair.rows(2000, 1);
  RidgeSums plain(pair.source, pair.target, false), moved(pair.source, pair.target, false);
  // 4096 + x with x rounded to multiples of 2^-10 is exact in float32.
  source.keys_NLHD = (source.keys_NLHD * 1024).round() / 1024;
  const CacheRows far{source.keys_NLHD + 4096, source.values_NLHD};
  for (int64_t i = 0; i < 2000; i += 250) {
    plain.add(source.slice(i, i + 250), target.slice(i, i + 250));
    moved.add(far.slice(i, i + 250), target.slice(i, i + 250));
  }
  EXPECT_LT(difference(moved.gram(), plain.gram()), 1e-5);
  EXPECT_LT(difference(moved.cross(), plain.cross()), 1e-5);
}

TEST(Ridge, AllLayersBeatOneAndChoiceFindsTheRightLayer) {
  const LinearPair pair({4, 2, 4}, {2, 2, 4}, 3);
  const auto [source, target] = pair.rows(3000, 1);
  const auto [fresh, truth] = pair.rows(500, 2);
  RidgeSums sums(pair.source, pair.target, false), heldout(pair.source, pair.target, false);
  sums.add(source.slice(0, 2500), target.slice(0, 2500));
  heldout.add(source.slice(2500, 3000), target.slice(2500, 3000));
  const auto r2 = [&](int64_t k, const std::string& selection) {
    RidgeOptions options;
    options.source_layers = k;
    options.selection = selection;
    RidgeProjector ridge(pair.source, pair.target, options);
    const RidgeSolution solution = solve_ridge(sums, &heldout, options);
    EXPECT_TRUE(solution.notes.empty());
    ridge.adopt(solution);
    const at::Tensor got = ridge.translate_rows(fresh).keys_NLHD;
    const double measured = 1 - ((got - truth.keys_NLHD).square().sum() /
                                 (truth.keys_NLHD - truth.keys_NLHD.mean(0)).square().sum())
                                    .item<double>();
    return std::pair{measured, solution.heldout_r2[0].mean().item<double>()};
  };
  const double all = r2(0, "predictive").first, two = r2(2, "predictive").first,
               one = r2(1, "predictive").first;
  EXPECT_GT(all, 0.9);
  EXPECT_GT(all, two + 0.05);
  EXPECT_GT(two, one + 0.05);
  EXPECT_NEAR(r2(0, "predictive").second, all, 0.1);  // what the sums say is what rows show
  EXPECT_LE(r2(1, "aligned").first, one + 1e-6);
}

TEST(Ridge, HeldOutSumsChooseLambdaAsRowsWould) {
  // Few rows, many features, much noise: the smallest lambda is not the best.
  const LinearPair pair({4, 2, 8}, {2, 2, 4}, 3, /*noise=*/3.0);
  const auto [source, target] = pair.rows(150, 1);
  const auto [held, held_truth] = pair.rows(4000, 2);
  RidgeSums sums(pair.source, pair.target, false), heldout(pair.source, pair.target, false);
  sums.add(source, target);
  heldout.add(held, held_truth);
  RidgeOptions options;
  options.lambda = {1e-6, 1e-2, 1e-1, 1.0, 10.0};
  const RidgeSolution chosen = solve_ridge(sums, &heldout, options);
  for (int64_t t = 0; t < 2; ++t) {
    double best = -1e9, best_lambda = 0;
    for (const double lambda : options.lambda) {
      RidgeOptions one = options;
      one.lambda = {lambda};
      RidgeProjector ridge(pair.source, pair.target, one);
      ridge.adopt(solve_ridge(sums, nullptr, one));
      const at::Tensor error =
          (ridge.translate_rows(held).keys_NLHD - held_truth.keys_NLHD).select(1, t);
      const at::Tensor deviation = chosen.target.deviation[0][t];
      const double score = -(error / deviation).square().mean().item<double>();
      if (score > best) best = score, best_lambda = lambda;
    }
    EXPECT_EQ(chosen.lambda[0][t].item<double>(), best_lambda) << "target layer " << t;
  }
  EXPECT_GT(chosen.lambda.min().item<double>(), 1e-6);
}

TEST(Ridge, GainUndoesWhatLeastSquaresShortens) {
  const LinearPair pair({3, 2, 4}, {2, 2, 4}, 3, /*noise=*/0.8);
  const auto [source, target] = pair.rows(16000, 1);
  const auto about = [](const at::Tensor& x) { return x - x.mean(0); };
  const at::Tensor truth = about(target.keys_NLHD);
  for (const bool joint : {false, true}) {
    RidgeSums sums(pair.source, pair.target, joint), heldout(pair.source, pair.target, joint);
    sums.add(source.slice(0, 8000), target.slice(0, 8000));
    heldout.add(source.slice(8000, 16000), target.slice(8000, 16000));
    RidgeOptions options;
    options.features = joint ? "both" : "same";
    options.lambda = {1e-3, 1e-2};
    const auto predicted = [&](double gain) {
      options.gain = gain;
      RidgeProjector ridge(pair.source, pair.target, options);
      const RidgeSolution solution = solve_ridge(sums, &heldout, options);
      EXPECT_EQ(solution.gain.defined(), gain > 0);
      ridge.adopt(solution);
      return ridge.translate_rows(source).keys_NLHD;
    };
    const at::Tensor plain = predicted(0), varied = predicted(0.5), unbiased = predicted(1);
    const auto deviation = [&](const at::Tensor& x) { return x.std(0) / target.keys_NLHD.std(0); };
    const auto slope = [&](const at::Tensor& x) {
      return (about(x) * truth).sum(0) / truth.square().sum(0);
    };
    EXPECT_LT(slope(plain).max().item<double>(), 0.85);
    EXPECT_LT((deviation(varied) - 1).abs().max().item<double>(), 0.03);
    EXPECT_LT((slope(unbiased) - 1).abs().max().item<double>(), 0.03);
    // The means stay, and so does the direction of every deviation.
    EXPECT_LT((unbiased.mean(0) - target.keys_NLHD.mean(0)).abs().max().item<double>(), 0.02);
    EXPECT_LT(difference(about(unbiased) / unbiased.std(0), about(plain) / plain.std(0)), 1e-4);
  }
}

TEST(Ridge, CandidateLayersAreReadFromTheRightPlaces) {
  const LinearPair pair({6, 1, 4}, {2, 1, 4}, 3);
  const auto [source, target] = pair.rows(800, 1);
  RidgeOptions options;
  options.candidate_layers = 3;
  options.lambda = {1e-4};
  RidgeSums sums(pair.source, pair.target, false, at::kCPU, evenly_spaced(3, 6));
  sums.add(source, target);
  RidgeProjector ridge(pair.source, pair.target, options);
  ridge.adopt(solve_ridge(sums, nullptr, options));
  // The same as a pair whose source has only layers 1, 3, 5.
  const at::Tensor kept = at::tensor({1, 3, 5}, at::kLong);
  const CacheRows small{source.keys_NLHD.index_select(1, kept),
                        source.values_NLHD.index_select(1, kept)};
  RidgeOptions plain;
  plain.lambda = {1e-4};
  RidgeSums small_sums({3, 1, 4}, pair.target, false);
  small_sums.add(small, target);
  RidgeProjector small_ridge({3, 1, 4}, pair.target, plain);
  small_ridge.adopt(solve_ridge(small_sums, nullptr, plain));
  EXPECT_LT(difference(ridge.translate_rows(source).keys_NLHD,
                       small_ridge.translate_rows(small).keys_NLHD),
            1e-5);
}

TEST(Ridge, SingularGramFallsBackAndSaysSo) {
  const KvShape shape{2, 1, 4};
  at::manual_seed(1);
  const at::Tensor x =
      at::randn({100, 1, 1, 4}).expand({100, 2, 1, 4}).contiguous();  // both layers the same
  RidgeSums sums(shape, shape, false);
  sums.add({x, x}, {x, x});
  RidgeOptions options;
  options.lambda = {1e-18};
  const RidgeSolution solution = solve_ridge(sums, nullptr, options);
  ASSERT_FALSE(solution.notes.empty());
  EXPECT_NE(solution.notes[0].find("Cholesky failed"), std::string::npos);
  RidgeProjector ridge(shape, shape, options);
  ridge.adopt(solution);
  EXPECT_LT((ridge.translate_rows({x, x}).keys_NLHD - x).abs().max().item<double>(), 1e-4);
}

TEST(Ridge, RefusesToChooseBlindly) {
  const LinearPair pair({2, 1, 4}, {2, 1, 4}, 3);
  RidgeSums sums(pair.source, pair.target, false);
  EXPECT_THROW(solve_ridge(sums, nullptr, {}), Error);  // no data
  const auto [source, target] = pair.rows(50, 1);
  sums.add(source, target);
  EXPECT_THROW(solve_ridge(sums, nullptr, {}), Error);  // a grid and nothing held out
}

}  // namespace
}  // namespace kvlingua
