#include "trainers/stages/loss.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "tests/support/synthetic_rows.h"
#include "trainers/engine/validation.h"

namespace kvlingua {
namespace {

// d loss / d x along a random direction against a central difference in float64.
template <class Loss>
void expect_gradient(at::Tensor x, const Loss& loss) {
  x.requires_grad_(true);
  loss(x).backward();
  const c10::NoGradGuard no_grad;
  at::manual_seed(8);
  const at::Tensor direction = at::randn(x.sizes(), x.options().requires_grad(false));
  const double analytic = (x.grad() * direction).sum().template item<double>();
  const double h = 1e-5;
  const double numeric = (loss(x + h * direction).template item<double>() -
                          loss(x - h * direction).template item<double>()) /
                         (2 * h);
  EXPECT_NEAR(analytic, numeric, 1e-6 * std::max(1.0, std::abs(numeric)));
  EXPECT_GT(std::abs(numeric), 1e-4);
}

AttentionContext context(int64_t layers, int64_t heads, int64_t dim) {
  at::manual_seed(2);
  RopeSpec rope;
  rope.head_dim = dim;
  rope.theta = 100;
  at::Tensor mask = at::ones({2, 5}, at::kBool);
  mask[1].slice(0, 3).fill_(false);
  return {at::randn({layers, 2, heads, 5, dim}, at::kDouble), at::arange(5).repeat({2, 1}) + 7,
          mask, rope};
}

TEST(Loss, NormalisedErrorIsInUnitsOfVariance) {
  const support::LinearPair pair({2, 1, 4}, {2, 2, 4}, 3);
  const CacheRows rows = pair.rows(4000, 1).second;
  ChannelSums sums(pair.target);
  sums.add(rows);
  const ChannelStatistics statistics = sums.statistics();
  const CacheRows mean{statistics.mean[0].expand_as(rows.keys_NLHD),
                       statistics.mean[1].expand_as(rows.values_NLHD)};
  const NormalisedError error = normalised_error(mean, rows, statistics);
  EXPECT_NEAR(error.keys.item<double>(), 1.0, 1e-3);
  EXPECT_NEAR(error.values.item<double>(), 1.0, 1e-3);
  at::Tensor mask = at::zeros({4000}, at::kBool);
  mask.slice(0, 0, 100).fill_(true);
  EXPECT_NEAR(
      normalised_error(mean, rows, statistics, mask).keys.item<double>(),
      normalised_error(mean.slice(0, 100), rows.slice(0, 100), statistics).keys.item<double>(),
      1e-5);
}

TEST(Loss, GradientsEqualFiniteDifferences) {
  at::manual_seed(4);
  const AttentionContext attention = context(2, 4, 6);
  const CacheRows target{at::randn({10, 2, 2, 6}, at::kDouble),
                         at::randn({10, 2, 2, 6}, at::kDouble)};
  const ChannelStatistics statistics{at::zeros({2, 2, 2, 6}), at::exp(at::randn({2, 2, 2, 6}))};
  const at::Tensor x = at::randn({10, 2, 2, 6}, at::kDouble);
  expect_gradient(x.clone(), [&](const at::Tensor& keys) {
    return normalised_error({keys, target.values_NLHD}, target, statistics).keys;
  });
  expect_gradient(x.clone(), [&](const at::Tensor& keys) {
    return attention_error(attention, {keys, x}, target);
  });
  expect_gradient(x.clone(), [&](const at::Tensor& values) {
    return attention_error(attention, {x, values}, target);
  });
  const at::Tensor teacher = at::randn({6, 11}, at::kDouble) * 2;
  // distillation_kl computes in float32, so its step must be larger.
  at::Tensor logits = at::randn({6, 11}, at::kDouble).requires_grad_(true);
  distillation_kl(logits, teacher, 1.5).backward();
  const at::Tensor p = at::softmax(logits.detach() / 1.5, -1), q = at::softmax(teacher / 1.5, -1);
  EXPECT_TRUE(at::allclose(logits.grad(), (p - q) * 1.5 / 6, 1e-4, 1e-6));  // the closed form
}

TEST(Loss, AttentionOutputsIgnorePaddingAndTheFuture) {
  const AttentionContext attention = context(1, 2, 4);
  at::manual_seed(5);
  CacheRows rows{at::randn({10, 1, 1, 4}, at::kDouble), at::randn({10, 1, 1, 4}, at::kDouble)};
  const at::Tensor before = attention_outputs(attention, rows).clone();
  rows.keys_NLHD[8].fill_(50);    // padding of the second row
  rows.values_NLHD[4].fill_(50);  // last token of the first row
  const at::Tensor after = attention_outputs(attention, rows);
  EXPECT_TRUE(
      at::allclose(before.select(1, 1).narrow(2, 0, 3), after.select(1, 1).narrow(2, 0, 3)));
  EXPECT_TRUE(
      at::allclose(before.select(1, 0).narrow(2, 0, 4), after.select(1, 0).narrow(2, 0, 4)));
  EXPECT_FALSE(
      at::allclose(before.select(1, 0).narrow(2, 4, 1), after.select(1, 0).narrow(2, 4, 1)));
}

TEST(Loss, KlOfEqualLogitsIsZero) {
  at::manual_seed(5);
  const at::Tensor logits = at::randn({7, 30}) * 5;
  EXPECT_NEAR(distillation_kl(logits, logits, 1).item<double>(), 0, 1e-6);
  EXPECT_GT(distillation_kl(logits.roll(1, 1), logits, 1).item<double>(), 0.1);
}

class Perfect : public Projector {
 public:
  Perfect(const KvShape& s, const KvShape& t, CacheRows answer)
      : Projector(s, t), answer_(std::move(answer)) {}
  std::string kind() const override { return "perfect"; }
  CacheRows translate_rows(const CacheRows&, const CacheRows*, uint64_t) const override {
    return answer_;
  }
  void to(at::Device, at::ScalarType) override {}
  at::Device device() const override { return at::kCPU; }

 private:
  CacheRows answer_;
};

TEST(Validation, KnowsPerfectMeanAndTokenMeans) {
  const support::LinearPair pair({2, 1, 4}, {2, 2, 4}, 3);
  at::manual_seed(6);
  const at::Tensor table = at::randn({20, 2, 2, 2, 4}) * 3 + 2;  // one cache entry a token ...
  const auto make = [&](int64_t n) {
    const at::Tensor tokens = at::randint(20, {n}, at::kLong);
    const at::Tensor rows =
        table.index_select(0, tokens) + at::randn({n, 2, 2, 2, 4});  // ... plus context
    TrainBatch batch{.source = pair.rows(n, 1).first,
                     .target = {rows.select(1, 0), rows.select(1, 1)}};
    batch.target_tokens = tokens;
    return batch;
  };
  const TrainBatch training = make(4000), held = make(500);
  ChannelSums sums(pair.target);
  sums.add(training.target);
  Validation validation({held}, sums.statistics());
  validation.fit_token_means(training);
  const ValidationNumbers result = validation.run(Perfect(pair.source, pair.target, held.target));
  EXPECT_NEAR(result.scores->key_r2, 1, 1e-9);
  EXPECT_NEAR(result.scores->value_cosine, 1, 1e-6);
  EXPECT_NEAR(result.baselines.at("mean").key_r2, 0, 1e-6);
  // What the token does not tell has variance 1 in every channel.
  const at::Tensor total = table.select(1, 0).var(at::IntArrayRef{0}, /*unbiased=*/false) + 1;
  EXPECT_NEAR(result.baselines.at("token_mean").key_r2,
              1 - total.reciprocal().mean().item<double>(), 0.02);
  EXPECT_FALSE(result.scores->attention_output_cosine.has_value());
  EXPECT_EQ(result.rows, 500);
}

}  // namespace
}  // namespace kvlingua
