// Fusion against Cache-to-Cache's own code on two tiny models (scripts/goldens/c2c_training.py): losses of whole-model training
// steps, and greedy generations from a fused cache, token for token.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoints/c2c_import.h"
#include "datasets/fusion.h"
#include "kvlingua/model/generation.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
const fs::path kData = fs::path(KVLINGUA_TEST_DATA) / "c2c" / "training";

nlohmann::json golden() {
  std::ifstream in(kData / "golden.json");
  return nlohmann::json::parse(in);
}

FusionBatch batch_of(const nlohmann::json& micro) {
  std::vector<FusionSample> samples;
  for (const auto& row : micro["rows"]) samples.push_back(chat_fusion_sample(row.get<std::vector<int64_t>>(), micro["prompt"]));
  return collate_fusion(samples);
}

class FusionGolden : public ::testing::Test {
 protected:
  CausalLM target_ = CausalLM::load(kData / "target");
  CausalLM source_ = CausalLM::load(kData / "source");

  double loss(C2CFuser& fuser, const FusionBatch& batch) const {
    C2CFuser::Mode mode;
    mode.training = true;
    const int64_t n = batch.sections[0].target.ids_BT.size(1), rows = batch.sections[0].target.ids_BT.size(0);
    mode.uniform = at::full({2, 3, rows, n, 2}, .5);
    const KvCache past = fused_prefill(target_, {{&source_, &fuser}}, {read_source(source_, batch, 0)}, batch, FusionOrder::kSequential, mode);
    const FusionLoss l = fusion_loss(target_, past, batch);
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
  const FusionBatch batch = batch_of(golden()["steps"][0]["micro"][0]);
  const KvCache cache = read_source(source_, batch, 0);
  const auto run = [&](FusionOrder order) { return fused_prefill(target_, {{&source_, &fuser}}, {cache}, batch, order, {}); };
  EXPECT_LT((run(FusionOrder::kSequential).keys() - run(FusionOrder::kParallel).keys()).abs().max().item<float>(), 1e-5);
}

}  // namespace
}  // namespace kvlingua
