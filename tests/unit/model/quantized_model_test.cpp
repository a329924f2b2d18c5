// Quantised models: the numbers of their dequantised twins, gradients to an injected past, what
// they refuse, and damaged files.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "kvlingua/base/error.h"
#include "kvlingua/io/safetensors.h"
#include "kvlingua/io/safetensors_writer.h"
#include "kvlingua/kernels/quantized.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/model/generation.h"
#include "support/temp_dir.h"
#include "support/tensors.h"
#include "support/tiny_model.h"

namespace kvlingua {
namespace {

// The model with every projection replaced by what its codes stand for.
void dequantized_twin(const CausalLM& model, WeightOptions how) {
  for (const auto& [name, tensor] : model.parameters()) {
    if (!name.ends_with("_proj.weight")) continue;
    const at::Tensor values = tensor.clone();
    if (how.format == WeightFormat::kInt8) {
      const at::Tensor codes = at::empty(values.sizes(), at::kChar),
                       absmax = at::empty({values.size(0)}, at::kFloat);
      int8_quantize(values, codes, absmax);
      int8_dequantize(codes, absmax, tensor);
      continue;
    }
    const int64_t n = values.numel();
    const at::Tensor codes = at::empty({n / 2}, at::kByte),
                     absmax = at::empty({(n + 63) / 64}, at::kFloat);
    nf4_quantize(values.view({-1}), codes, absmax);
    Nf4Scales scales{absmax, {}, {}, 0};
    if (how.double_quantization) scales = nf4_quantize_scales(absmax);
    nf4_dequantize(codes, scales, tensor);
  }
}

struct Case {
  const char* name;
  Architecture architecture;
  WeightOptions how;
};

class QuantizedModel : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const bool tied = GetParam().architecture != Architecture::kLlama;
    const CausalLM model = testing::tiny_model(GetParam().architecture, 1, tied);
    model.save(folder_.path() / "dense", at::kFloat);
    dequantized_twin(model, GetParam().how);
    model.save(folder_.path() / "twin", at::kFloat);
  }
  CausalLM quantized(bool streamed = false) const {
    LoadOptions options;
    options.weights = GetParam().how;
    options.layer_streaming = streamed;
    return CausalLM::load(folder_.path() / "dense", options);
  }
  static std::vector<int64_t> ids(int64_t n) {
    std::vector<int64_t> out;
    for (int64_t i = 0; i < n; ++i) out.push_back((i * 13 + 5) % 97);
    return out;
  }
  const TempDir folder_;
};

TEST_P(QuantizedModel, ReadsAsItsDequantisedTwinBitForBit) {
  const CausalLM twin = CausalLM::load(folder_.path() / "twin");
  PrefillOptions all;
  all.logits = LogitsAt::kAll;
  all.want_queries = all.want_hidden = true;
  const auto batch = TokenBatch::from_rows({ids(20), ids(11)});
  const PrefillResult expected = twin.prefill(batch, nullptr, all);
  for (const bool streamed : {false, true}) {
    const CausalLM model = quantized(streamed);
    const PrefillResult got = model.prefill(batch, nullptr, all);
    EXPECT_TRUE(at::equal(got.logits, expected.logits));
    EXPECT_TRUE(at::equal(got.queries, expected.queries));
    EXPECT_EQ(got.cache.fingerprint(), expected.cache.fingerprint());
    EXPECT_EQ(model.fingerprint(), quantized().fingerprint());
    // No logits: the last layer gives keys and values alone.
    EXPECT_EQ(model.prefill(batch).cache.fingerprint(), twin.prefill(batch).cache.fingerprint());
  }
}

TEST_P(QuantizedModel, DecodesAsItsTwin) {
  const CausalLM twin = CausalLM::load(folder_.path() / "twin"), model = quantized();
  const auto batch = TokenBatch::from_rows({ids(20)});
  const auto a = generate(model, batch, nullptr, {.max_new_tokens = 12}),
             b = generate(twin, batch, nullptr, {.max_new_tokens = 12});
  EXPECT_EQ(a[0].ids, b[0].ids);
  ASSERT_EQ(a[0].logprobs.size(), b[0].logprobs.size());
  for (size_t i = 0; i < a[0].logprobs.size(); ++i)
    EXPECT_NEAR(a[0].logprobs[i], b[0].logprobs[i], 1e-4);
}

TEST_P(QuantizedModel, GradientToAPastIsTheTwins) {
  const CausalLM twin = CausalLM::load(folder_.path() / "twin"), model = quantized();
  const auto context = TokenBatch::from_rows({ids(9)}), answer = TokenBatch::from_rows({ids(21)});
  const auto gradient = [&](const CausalLM& m, bool checkpoint) {
    const KvCache read = twin.prefill(context).cache;
    const at::Tensor keys = read.keys().clone().requires_grad_(true),
                     values = read.values().clone().requires_grad_(true);
    const KvCache past(keys, values, read.positions(), read.rope(), read.mask());
    PrefillOptions options;
    options.logits = LogitsAt::kAll;
    options.checkpoint_activations = checkpoint;
    m.prefill(answer, &past, options).logits.log_softmax(-1).select(-1, 3).sum().backward();
    return std::pair{keys.grad(), values.grad()};
  };
  const auto [keys, values] = gradient(twin, false);
  EXPECT_GT(keys.abs().max().item<float>(), 0);
  for (const bool checkpoint : {false, true}) {
    const auto [k, v] = gradient(model, checkpoint);
    EXPECT_TRUE(at::equal(k, keys));
    EXPECT_TRUE(at::equal(v, values));
  }
}

TEST_P(QuantizedModel, IsNamedAndSmallerAndNotTrained) {
  const CausalLM dense = CausalLM::load(folder_.path() / "dense"), model = quantized();
  const std::string prefix = GetParam().how.format == WeightFormat::kInt8 ? "int8-"
                             : GetParam().how.double_quantization         ? "nf4-double-"
                                                                          : "nf4-";
  EXPECT_EQ(model.fingerprint(), prefix + dense.fingerprint());
  EXPECT_EQ(model.weight_format(), *GetParam().how.format);
  EXPECT_LT(model.weight_bytes(), dense.weight_bytes());
  EXPECT_THROW(model.parameters(), Error);
  EXPECT_THROW(model.save(folder_.path() / "copy", at::kFloat), Error);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, QuantizedModel,
    ::testing::Values(Case{"qwen2_nf4", Architecture::kQwen2, {WeightFormat::kNf4, false}},
                      Case{"qwen3_nf4_double", Architecture::kQwen3, {WeightFormat::kNf4, true}},
                      Case{"llama_nf4", Architecture::kLlama, {WeightFormat::kNf4, true}},
                      Case{"qwen2_int8", Architecture::kQwen2, {WeightFormat::kInt8, true}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Int8, RoundsToTheNearestOf255) {
  const at::Tensor values =
                       at::tensor({0.5f, -1.0f, 0.0f, 0.25f, 0.0f, 0.0f, 0.0f, 0.0f}).view({2, 4}),
                   codes = at::empty({2, 4}, at::kChar), absmax = at::empty({2}, at::kFloat),
                   back = at::empty({2, 4}, at::kFloat);
  int8_quantize(values, codes, absmax);
  EXPECT_TRUE(at::equal(codes.to(at::kInt),
                        at::tensor({64, -127, 0, 32, 0, 0, 0, 0}).view({2, 4}).to(at::kInt)));
  int8_dequantize(codes, absmax, back);
  EXPECT_LT((back - values).abs().max().item<float>(), 0.5f / 127 + 1e-6f);
}

// ---- damaged files ----

class SavedCodes : public ::testing::Test {
 protected:
  using Tensors = std::vector<std::pair<std::string, at::Tensor>>;
  // A copy of a directory that bitsandbytes saved, changed.
  std::string load_changed(const std::function<void(Tensors&)>& change,
                           const std::function<std::string(std::string)>& config = {}) {
    const auto from = std::filesystem::path(KVLINGUA_TEST_DATA) /
                      "quantized/qwen2_untied_sharded_bf16_nf4_double";
    const auto file = SafetensorsFile::open(from / "model.safetensors");
    Tensors tensors;
    for (const auto& [name, view] : file.tensors())
      tensors.emplace_back(name, testing::tensor_of(file, name));
    change(tensors);
    std::vector<SafetensorsEntry> entries;
    for (auto& [name, t] : tensors) {
      t = t.contiguous();
      const SafetensorsDtype type = t.scalar_type() == at::kByte    ? SafetensorsDtype::kU8
                                    : t.scalar_type() == at::kFloat ? SafetensorsDtype::kF32
                                                                    : SafetensorsDtype::kBF16;
      entries.push_back({name, type, t.sizes().vec()});
    }
    SafetensorsWriter writer(folder_.path() / "model.safetensors", entries);
    for (const auto& [name, t] : tensors)
      writer.write(
          {static_cast<const std::byte*>(t.const_data_ptr()), static_cast<size_t>(t.nbytes())});
    writer.finish();
    std::ifstream in(from / "config.json");
    std::string text{std::istreambuf_iterator<char>(in), {}};
    if (config) text = config(text);
    std::ofstream(folder_.path() / "config.json") << text;
    try {
      CausalLM::load(folder_.path());
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
  }
  static at::Tensor& find(Tensors& tensors, const std::string& name) {
    for (auto& [n, t] : tensors)
      if (n == name) return t;
    throw std::runtime_error("no " + name);
  }
  void expect(const std::string& message, const std::vector<std::string>& words) {
    for (const std::string& word : words)
      EXPECT_NE(message.find(word), std::string::npos) << word << " is not in: " << message;
  }
  static at::Tensor state(const std::string& text) {
    at::Tensor t = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
    std::memcpy(t.mutable_data_ptr(), text.data(), text.size());
    return t;
  }
  const TempDir folder_;
  const std::string q_ = "model.layers.0.self_attn.q_proj.weight";
};

TEST_F(SavedCodes, Intact) {
  EXPECT_EQ(load_changed([](Tensors&) {}), "");
}
TEST_F(SavedCodes, MissingParts) {
  for (const char* part : {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map",
                           ".quant_state.bitsandbytes__nf4"}) {
    expect(load_changed([&](Tensors& t) {
             std::erase_if(t, [&](const auto& p) { return p.first == q_ + part; });
           }),
           {"model.safetensors", q_ + part, "missing"});
  }
}
TEST_F(SavedCodes, WrongSizes) {
  expect(load_changed([&](Tensors& t) { find(t, q_ + ".absmax") = at::zeros({15}, at::kByte); }),
         {q_ + ".absmax", "wrong size", "[15]", "16 values"});
  expect(load_changed([&](Tensors& t) {
           find(t, q_) = at::zeros({511, 1}, at::kByte);
         }),
         {q_, "wrong size", "512 values"});
  expect(load_changed([&](Tensors& t) { find(t, q_ + ".absmax") = at::zeros({16}, at::kFloat); }),
         {q_ + ".absmax", "wrong type", "F32", "U8"});
}
TEST_F(SavedCodes, OtherNumbers) {
  expect(load_changed([&](Tensors& t) { find(t, q_ + ".quant_map")[3] = 0.5f; }),
         {q_ + ".quant_map", "not NF4's codes"});
  expect(load_changed([&](Tensors& t) { find(t, q_ + ".nested_absmax")[0] = NAN; }),
         {q_ + ".nested_absmax", "not a number"});
}
TEST_F(SavedCodes, QuantState) {
  const std::string key = q_ + ".quant_state.bitsandbytes__nf4";
  const auto with = [&](const std::string& text) {
    return load_changed([&](Tensors& t) { find(t, key) = state(text); });
  };
  expect(with("{"), {key});
  expect(with("[]"), {key, "quant_type"});
  expect(with(R"({"quant_type": "fp4"})"), {key, "quant_type", "fp4"});
  expect(with(R"({"quant_type": "nf4", "blocksize": 48})"), {key, "blocksize", "48"});
  expect(with(R"({"quant_type": "nf4", "blocksize": 64, "shape": [32, 31]})"),
         {key, "shape", "[32,31]", "[32, 32]"});
  expect(with(R"({"quant_type": "nf4", "blocksize": 64, "shape": [32, 32],
                  "nested_blocksize": 256, "nested_offset": null})"),
         {key, "nested_offset"});
}
TEST_F(SavedCodes, OtherMethodsAreRefusedByName) {
  for (const char* method : {"gptq", "awq", "compressed-tensors"}) {
    expect(load_changed([](Tensors&) {},
                        [&](std::string text) {
                          const size_t at = text.find("\"bitsandbytes\"");
                          return text.replace(at, 14, std::string("\"") + method + "\"");
                        }),
           {"config.json", "quantization_config", method});
  }
}
TEST_F(SavedCodes, AskedForAnotherFormat) {
  load_changed([](Tensors&) {});
  LoadOptions options;
  options.weights.format = WeightFormat::kInt8;
  try {
    CausalLM::load(folder_.path(), options);
    FAIL() << "loaded";
  } catch (const Error& error) {
    expect(error.what(), {"nf4", "int8", "_proj.weight"});
  }
}

}  // namespace
}  // namespace kvlingua
