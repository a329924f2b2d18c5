// Fusion against Cache-to-Cache's own code on two tiny models (scripts/goldens/c2c_training.py):
// losses of whole-model training steps, and greedy generations from a fused cache, token for token.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoints/c2c_import.h"
#include "kvlingua/bridge/fusion.h"
#include "kvlingua/model/generation.h"
#include "support/c2c_training.h"

namespace kvlingua {
namespace {

const std::filesystem::path kData = testing::c2c_training_data();

nlohmann::json golden() {
  std::ifstream in(kData / "golden.json");
  return nlohmann::json::parse(in);
}

FusionBatch batch_of(const nlohmann::json& micro) {
  std::vector<FusionSample> samples;
  for (const auto& row : micro["rows"])
    samples.push_back(chat_fusion_sample(row.get<std::vector<int64_t>>(), micro["prompt"]));
  return collate_fusion(samples);
}

class FusionGolden : public ::testing::Test {
 protected:
  CausalLM target_ = CausalLM::load(kData / "target");
  CausalLM source_ = CausalLM::load(kData / "source");
  bool with_response_ = golden().value("include_response", false);

  double loss(C2CFuser& fuser, const FusionBatch& batch) const {
    C2CFuser::Mode mode;
    mode.training = true;
    mode.fixed_uniform = .5;
    const FusionSource source{&source_, &fuser};
    const KvCache read = read_source(source_, batch, 0, with_response_);
    KvCache clean, answer;
    const KvCache past =
        fused_prefill(target_, {source}, {read}, batch, FusionOrder::kSequential, mode, &clean);
    if (with_response_) answer = fused_answer(target_, source, read, clean, batch, mode);
    const FusionLoss l =
        fusion_loss(target_, past, batch, false, with_response_ ? &answer : nullptr);
    return l.sum.item<double>() / static_cast<double>(l.labels);
  }
};

// The first update has learning rate 0, so the first two steps see the initial weights.
TEST_F(FusionGolden, LossesBeforeTheFirstChange) {
  C2CFuser fuser = read_c2c_directory(kData / "initial");
  const auto record = golden();
  for (int step : {0, 1}) {
    fuser.set_temperature(step);
    for (const auto& micro : record["steps"][step]["micro"]) {
      const double expected = micro["loss"];
      EXPECT_NEAR(loss(fuser, batch_of(micro)), expected, 1e-5 * expected);
    }
  }
}

TEST_F(FusionGolden, OneOrTwoSourcesInAnyOrderOfOne) {
  // With one source the two orders are the same computation but for rounding.
  C2CFuser fuser = read_c2c_directory(kData / "trained");
  const FusionBatch batch = batch_of(golden().at("steps").at(0).at("micro").at(0));
  const KvCache cache = read_source(source_, batch, 0);
  const auto run = [&](FusionOrder order) {
    return fused_prefill(target_, {{&source_, &fuser}}, {cache}, batch, order, {});
  };
  EXPECT_LT((run(FusionOrder::kSequential).keys() - run(FusionOrder::kParallel).keys())
                .abs()
                .max()
                .item<float>(),
            1e-5);
}

// Two sources: one after the other each sees what the one before made of it, side by side every one
// sees the clean cache and what they add is added up.
TEST_F(FusionGolden, TwoSourcesSequentialAndParallel) {
  const C2CFuser first = read_c2c_directory(kData / "trained"),
                 second = read_c2c_directory(kData / "initial");
  const c10::NoGradGuard no_grad;
  for (const auto& [name, tensor] : second.parameters()) {
    if (name == "gate_logit") tensor.fill_(1);
  }
  auto micro = golden().at("steps").at(0).at("micro").at(0);
  std::vector<FusionSample> samples;
  for (const auto& row : micro["rows"]) {
    samples.push_back(chat_fusion_sample(row.get<std::vector<int64_t>>(), micro["prompt"]));
    for (int64_t& s : samples.back().selector) s = s > 0 ? 3 : s;  // both
  }
  const FusionBatch batch = collate_fusion(samples);
  const KvCache read = read_source(source_, batch, 0);
  const std::vector<FusionSource> both{{&source_, &first}, {&source_, &second}};
  const auto run = [&](FusionOrder order) {
    return fused_prefill(target_, both, {read, read}, batch, order, {});
  };
  const KvCache own = target_.prefill(batch.sections[0].target).cache;
  const KvCache one = first.fuse(read, own, {}), other = second.fuse(read, own, {});
  const KvCache chained = second.fuse(read, one, {});
  const auto apart = [](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).abs().max().item<float>();
  };
  const KvCache sequential = run(FusionOrder::kSequential), parallel = run(FusionOrder::kParallel);
  EXPECT_LT(apart(sequential.keys(), chained.keys()), 1e-6);
  EXPECT_LT(apart(parallel.keys(), one.keys() + other.keys() - own.keys()), 1e-5);
  EXPECT_LT(apart(parallel.values(), one.values() + other.values() - own.values()), 1e-5);
  EXPECT_GT(apart(sequential.keys(), parallel.keys()), 1e-3);
  // The selector picks: bit 1 is the second source alone.
  for (FusionSample& s : samples) {
    for (int64_t& x : s.selector) x = x > 0 ? 2 : x;
  }
  const KvCache alone = fused_prefill(target_, both, {read, read}, collate_fusion(samples),
                                      FusionOrder::kSequential, {});
  EXPECT_LT(apart(alone.keys(), other.keys()), 1e-6);
}

std::vector<int64_t> until_stop(std::vector<int64_t> ids) {
  if (const auto stop = std::find(ids.begin(), ids.end(), 1); stop != ids.end())
    ids.erase(stop, ids.end());
  return ids;
}

TEST_F(FusionGolden, GenerationsTokenForToken) {
  const C2CFuser fuser = read_c2c_directory(kData / "trained");
  GenerationOptions options;
  options.max_new_tokens = 12;
  options.stop_ids = {1};
  int changed = 0;
  const nlohmann::json record = golden();  // outlives the loop
  if (!record.contains("generations")) GTEST_SKIP() << "no generations in " << kData;
  for (const auto& item : record["generations"]) {
    const auto prompt = item["prompt"].get<std::vector<int64_t>>();
    auto with_answer = prompt;
    with_answer.push_back(0);  // a place for the answer, which is not read
    const FusionBatch batch =
        collate_fusion({chat_fusion_sample(with_answer, static_cast<int64_t>(prompt.size()))});
    const KvCache past =
        fused_prefill(target_, {{&source_, &fuser}}, {read_source(source_, batch, 0)}, batch,
                      FusionOrder::kSequential, {});
    const auto fused = generate(target_, TokenBatch::from_rows({{prompt.back()}}), &past, options);
    EXPECT_EQ(fused[0].ids, until_stop(item["fused"]));
    EXPECT_EQ(generate(target_, TokenBatch::from_rows({prompt}), nullptr, options)[0].ids,
              until_stop(item["alone"]));
    changed += item["fused"] != item["alone"];
  }
  EXPECT_GT(changed, 3);  // the fuser does something, so equality above means something
}

}  // namespace
}  // namespace kvlingua
