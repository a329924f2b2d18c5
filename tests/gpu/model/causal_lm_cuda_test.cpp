// The runtime on a CUDA device against the CPU: logits, cache, greedy text, gradient. Skips aloud
// without a device.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/model/generation.h"
#include "support/tiny_model.h"

namespace kvlingua {
namespace {

class CudaModel : public ::testing::TestWithParam<Architecture> {
 protected:
  void SetUp() override {
    if (at::getNumGPUs() == 0) GTEST_SKIP() << "no CUDA device";
    at::globalContext().setFloat32MatmulPrecision("highest");
  }
};
INSTANTIATE_TEST_SUITE_P(All, CudaModel,
                         ::testing::Values(Architecture::kQwen2, Architecture::kQwen3,
                                           Architecture::kLlama),
                         [](const auto& info) { return to_string(info.param); });

TEST_P(CudaModel, EqualsTheCpu) {
  LoadOptions load;
  load.device = at::Device("cuda:0");
  const ModelConfig config = testing::tiny_config(GetParam());
  const CausalLM host = CausalLM::random(config, {}, 1), device = CausalLM::random(config, load, 1);
  const auto batch = TokenBatch::from_rows({{1, 2, 3, 4, 5}, {7, 8, 9}}, true);
  PrefillOptions options;
  options.logits = LogitsAt::kLast;
  const PrefillResult a = host.prefill(batch, nullptr, options),
                      b = device.prefill(batch, nullptr, options);
  EXPECT_TRUE(at::allclose(b.logits.cpu(), a.logits, 1e-4, 1e-5));
  const at::Tensor real = batch.mask_BT.view({1, 2, 1, 5, 1});
  EXPECT_TRUE(at::allclose(b.cache.keys().cpu() * real, a.cache.keys() * real, 1e-4, 1e-5));
  GenerationOptions generation;
  generation.max_new_tokens = 8;
  EXPECT_EQ(generate(device, batch, nullptr, generation)[0].ids,
            generate(host, batch, nullptr, generation)[0].ids);
  // The gradient of an injected past.
  const auto gradient = [&](const CausalLM& model, const KvCache& past) {
    const at::Tensor keys = past.keys().clone().requires_grad_(true);
    const KvCache injected(keys, past.values(), past.positions(), past.rope(), past.mask());
    model.prefill(batch, &injected, options).logits.square().sum().backward();
    return keys.grad().cpu();
  };
  EXPECT_TRUE(
      at::allclose(gradient(device, b.cache) * real, gradient(host, a.cache) * real, 1e-3, 1e-5));
}

}  // namespace
}  // namespace kvlingua
