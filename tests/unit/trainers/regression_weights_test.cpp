// Weights of layers and heads in the regression loss.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "kvlingua/projector/mlp.h"
#include "support/synthetic_rows.h"
#include "trainers/stages/regression.h"

namespace kvlingua {
namespace {

const KvShape kSource{2, 2, 4}, kTarget{3, 2, 4};

double loss(const RegressionOptions& options) {
  support::LinearPair pair(kSource, kTarget, 3);
  const auto [source, target] = pair.rows(32, 1);
  const MlpProjector projector(kSource, kTarget, {}, {.hidden = 4});
  RegressionObjective objective(
      projector, ChannelStatistics::identity(kTarget), options,
      std::make_unique<MemorySource>(source, target, MemorySource::Options{.batch_size = 32}),
      nullptr);
  return objective.next(false).loss.item<double>();
}

TEST(RegressionWeights, TheLossIsTheWeighedMean) {
  double by_layer = 0, by_head = 0;
  for (int i = 0; i < 3; ++i) {
    RegressionOptions one;
    one.layer_weights = {0, 0, 0};
    one.layer_weights[static_cast<size_t>(i)] = 5;
    by_layer += loss(one) / 3;
  }
  for (int i = 0; i < 2; ++i) {
    RegressionOptions one;
    one.head_weights = {i == 0 ? 1.0 : 0.0, i == 1 ? 1.0 : 0.0};
    by_head += loss(one) / 2;
  }
  const double all = loss({});
  EXPECT_NEAR(by_layer, all, 1e-5 * all);
  EXPECT_NEAR(by_head, all, 1e-5 * all);
  RegressionOptions equal;
  equal.layer_weights = {2, 2, 2};
  equal.head_weights = {7, 7};
  EXPECT_NEAR(loss(equal), all, 1e-5 * all);
}

TEST(RegressionWeights, MisfitsAreNamed) {
  RegressionOptions wrong;
  wrong.layer_weights = {1, 1};
  try {
    loss(wrong);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("train.regression.layer_weights"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("expected 3"), std::string::npos);
  }
}

}  // namespace
}  // namespace kvlingua
