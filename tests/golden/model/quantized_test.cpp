// NF4 against bitsandbytes (scripts/goldens/quantized.py): codes, scales and weights bit for bit,
// and directories that it saved against quantisation at load.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "kvlingua/kernels/quantized.h"
#include "kvlingua/model/causal_lm.h"
#include "support/tensors.h"

namespace kvlingua {
namespace {

using testing::tensor_of;

std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(KVLINGUA_TEST_DATA) / name;
}

class Nf4 : public ::testing::TestWithParam<const char*> {
 protected:
  at::Tensor get(const std::string& part) const {
    return tensor_of(golden_, std::string(GetParam()) + "." + part);
  }
  const SafetensorsFile golden_ = SafetensorsFile::open(data("quantized/nf4.safetensors"));
};
INSTANTIATE_TEST_SUITE_P(Bitsandbytes, Nf4,
                         ::testing::Values("random", "outlier", "constant", "ties", "bf16", "f16"),
                         [](const auto& info) { return std::string(info.param); });

// Equal numbers, and of equal type; at::equal alone takes a nan for another.
void expect_bits(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.scalar_type(), expected.scalar_type());
  EXPECT_TRUE(at::equal(got.view({-1}), expected.view({-1})))
      << (got.view({-1}) != expected.view({-1})).sum().item<int64_t>() << " of " << got.numel()
      << " differ";
}

TEST_P(Nf4, QuantisesAsBitsandbytes) {
  const at::Tensor values = get("values").to(at::kFloat);
  const at::Tensor codes = at::empty({values.numel() / 2}, at::kByte),
                   absmax = at::empty({values.numel() / 64}, at::kFloat);
  nf4_quantize(values, codes, absmax);
  expect_bits(codes, get("codes"));
  expect_bits(absmax, get("absmax"));
  const Nf4Scales nested = nf4_quantize_scales(absmax);
  expect_bits(nested.absmax, get("nested.absmax"));
  expect_bits(nested.nested_absmax, get("nested.nested_absmax"));
  expect_bits(nested.nested_map, get("nested.nested_map"));
  EXPECT_EQ(nested.offset, get("nested.offset").item<float>());
  expect_bits(nf4_scales(nested), get("nested.scales"));
}

TEST_P(Nf4, DequantisesAsBitsandbytes) {
  const at::Tensor codes = get("codes");
  const Nf4Scales plain{get("absmax"), {}, {}, 0};
  for (const auto& [type, name] :
       {std::pair{at::kFloat, "float32"}, {at::kBFloat16, "bfloat16"}, {at::kHalf, "float16"}}) {
    const at::Tensor out = at::empty({codes.numel() * 2}, at::TensorOptions().dtype(type));
    nf4_dequantize(codes, plain, out);
    const at::Tensor expected = get(name);
    EXPECT_TRUE(at::equal(out.view({-1}), expected)) << name;
  }
  const Nf4Scales nested{get("nested.absmax"), get("nested.nested_absmax"),
                         get("nested.nested_map"), get("nested.offset").item<float>()};
  const at::Tensor out = at::empty({codes.numel() * 2}, at::kFloat);
  nf4_dequantize(codes, nested, out);
  if (get("values").scalar_type() == at::kFloat) expect_bits(out, get("nested.float32"));
}

// The same caches, whoever quantised: bitsandbytes and saved, or we at load; and as the floats that
// the codes stand for.
class Saved : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Double, Saved, ::testing::Bool());

TEST_P(Saved, GivesTheCachesOfQuantisationAtLoad) {
  const std::string name = "qwen2_untied_sharded_bf16";
  const auto saved_at = data("quantized/" + name + (GetParam() ? "_nf4_double" : "_nf4"));
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    LoadOptions options;
    options.dtype = type;
    const CausalLM saved = CausalLM::load(saved_at, options);
    options.weights = {WeightFormat::kDense, true};
    const CausalLM dense = CausalLM::load(saved_at, options);
    options.weights = {WeightFormat::kNf4, GetParam()};
    const CausalLM made = CausalLM::load(data("model/" + name), options);
    EXPECT_EQ(saved.weight_format(), WeightFormat::kNf4);
    EXPECT_EQ(dense.weight_format(), WeightFormat::kDense);
    EXPECT_EQ(saved.weight_bytes(), made.weight_bytes());
    EXPECT_LT(saved.weight_bytes(), dense.weight_bytes());
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < 24; ++i) ids.push_back((i * 7 + 3) % 64);
    PrefillOptions all;
    all.logits = LogitsAt::kAll;
    const auto batch = TokenBatch::from_rows({ids});
    const PrefillResult a = saved.prefill(batch, nullptr, all),
                        b = made.prefill(batch, nullptr, all),
                        c = dense.prefill(batch, nullptr, all);
    EXPECT_TRUE(at::equal(a.logits, b.logits));
    EXPECT_EQ(a.cache.fingerprint(), b.cache.fingerprint());
    EXPECT_TRUE(at::equal(a.logits, c.logits));
    EXPECT_EQ(a.cache.fingerprint(), c.cache.fingerprint());
    // Three artifacts, three names.
    EXPECT_NE(saved.fingerprint(), made.fingerprint());
    EXPECT_EQ(dense.fingerprint(), "dense-" + saved.fingerprint());
    EXPECT_EQ(made.fingerprint().find(GetParam() ? "nf4-double-" : "nf4-"), 0u);
  }
}

}  // namespace
}  // namespace kvlingua
