#include "kvlingua/projector/c2c_fuser.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

// A small projector whose weights, inputs and outputs are known from the reference implementation
// (float32, CPU, one thread): weight i, counted over the state_dict in order without
// gate_temperature, is .5 sin(.7 i + .3), norms 1 + .1 of that.
struct Golden {
  C2CFuser fuser = make();
  KvCache source = cache(
      1, 1, 2, [](double j) { return std::cos(.9 * j + .1); },
      [](double j) { return std::cos(.4 * j + .2); });
  KvCache target = cache(
      1, 2, 4, [](double j) { return std::cos(.3 * j + .5); },
      [](double j) { return std::cos(.6 * j + .7); });

  static C2CFuser make() {
    C2CConfig config;
    config.source = {1, 1, 2};
    config.target = {1, 2, 4};
    config.source_layer = {0};
    config.intermediate_dim = 6;
    config.hidden_dim = 5;
    config.num_layers = 4;
    config.dropout = 0;
    C2CFuser fuser(config, at::kCPU, at::kFloat);
    std::vector<std::pair<std::string, at::Tensor>> state;
    int64_t index = 0;
    for (const auto& [name, tensor] : fuser.layer_state(0)) {
      if (name == "gate_temperature") {
        state.emplace_back(name, tensor.clone());
        continue;
      }
      at::Tensor value =
          at::sin(.7 * at::arange(index, index + tensor.numel(), at::kDouble) + .3) * .5;
      index += tensor.numel();
      if (name.find("norm") != std::string::npos) value = 1 + .1 * value;
      if (name == "key_gate_logit") value.fill_(.25);
      if (name == "value_gate_logit") value.fill_(.1);
      state.emplace_back(name, value.to(at::kFloat).view(tensor.sizes()));
    }
    EXPECT_EQ(index, 732);
    fuser.load_layer_state(0, state);
    return fuser;
  }

  template <class F, class G>
  static KvCache cache(int64_t layers, int64_t heads, int64_t dim, F key, G value) {
    const int64_t tokens = 3;
    const auto fill = [&](auto f) {
      at::Tensor t = at::empty({layers * heads * tokens * dim}, at::kDouble);
      for (int64_t j = 0; j < t.numel(); ++j) t[j] = f(static_cast<double>(j));
      return t.to(at::kFloat).view({layers, 1, heads, tokens, dim});
    };
    return KvCache(fill(key), fill(value), at::arange(tokens).unsqueeze(0), std::nullopt);
  }
};

void expect_near(const at::Tensor& got, const std::vector<float>& expected, double tolerance) {
  const at::Tensor flat = got.detach().contiguous().view({-1});
  ASSERT_GE(flat.numel(), static_cast<int64_t>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<float>(), expected[i], tolerance)
        << "element " << i;
  }
}

TEST(C2CFuser, GoldenEvaluation) {
  const Golden golden;
  const KvCache out = golden.fuser.fuse(golden.source, golden.target, {});
  expect_near(out.keys(),
              {.5521650f,   1.5104067f,  -.5431861f, .6650894f,   .7010149f,  -1.3533337f,
               .5044040f,   -2.7905946f, .3727509f,  -2.4735096f, .7173480f,  -3.0618892f,
               -1.0623722f, -.1614086f,  -.0753341f, .3540015f,   1.1553195f, -.0157452f,
               1.4580588f,  .9185227f,   1.9082899f, -.1676776f,  1.2528715f, .5681763f},
              1e-6);
  expect_near(out.values(),
              {-.6987939f, .8813732f,  -1.0401766f, -.5539508f,  -.8227584f, -1.2275437f,
               -.2095525f, .0474933f,  .4057552f,   1.2326262f,  .4393560f,  1.0211399f,
               .0798226f,  -.6805586f, -.6668087f,  -1.2266654f, -.1342518f, .3178389f,
               .3442356f,  1.5462363f, .3016261f,   1.6279216f,  -.0864809f, -.1813750f},
              1e-6);
}

TEST(C2CFuser, GoldenTrainingAndGradients) {
  Golden golden;
  golden.fuser.set_temperature(500);
  for (const auto& [name, tensor] : golden.fuser.parameters())
    const_cast<at::Tensor&>(tensor).requires_grad_(true);
  C2CFuser::Mode mode;
  mode.training = true;
  mode.uniform = at::full({2, 1, 1, 3, 2}, .5);
  const KvCache out = golden.fuser.fuse(golden.source, golden.target, mode);
  expect_near(out.keys(), {.5600591f, 1.4906676f, -.5190056f, .6530784f}, 1e-6);
  const at::Tensor loss = out.keys().square().sum() + out.values().square().sum();
  EXPECT_NEAR(loss.item<float>(), 54.7398453f, 1e-4);
  loss.backward();
  for (const auto& [name, tensor] : golden.fuser.parameters()) {
    if (name == "gate_logit") expect_near(tensor.grad(), {7.4112849f, 3.2608473f}, 2e-5);
    if (name == "in.weight")
      expect_near(tensor.grad().select(0, 0), {-3.3407776f, -2.0673892f, -3.3575943f}, 2e-5);
  }
}

TEST(C2CFuser, TemperatureSchedule) {
  Golden golden;
  golden.fuser.set_temperature(500);
  EXPECT_FLOAT_EQ(static_cast<float>(golden.fuser.temperature()), .16687644f);
  C2CConfig config = golden.fuser.config();
  C2CFuser half(config, at::kCPU, at::kBFloat16);
  const auto stored = [&](int64_t step) {
    half.set_temperature(step);
    for (const auto& [name, tensor] : half.layer_state(0)) {
      if (name == "gate_temperature") return tensor.item<float>();
    }
    return 0.f;
  };
  EXPECT_FLOAT_EQ(stored(1), .99609375f);
  EXPECT_NEAR(stored(1929), .00099945f, 1e-8);
  EXPECT_EQ(stored(5000), stored(1929));
}

TEST(C2CFuser, UntrainedIsClosedInEvaluation) {
  C2CConfig config;
  config.source = {3, 2, 4};
  config.target = {2, 1, 6};
  config.source_layer = map_layers(LayerMapping::kLastAligned, 2, 3);
  config.hidden_dim = config.intermediate_dim = 8;
  const C2CFuser fuser(config, at::kCPU, at::kFloat, 3);
  const auto any = [](KvShape s) {
    return KvCache(at::randn({s.layers, 2, s.kv_heads, 5, s.head_dim}),
                   at::randn({s.layers, 2, s.kv_heads, 5, s.head_dim}),
                   at::arange(5).unsqueeze(0).expand({2, 5}).contiguous(), std::nullopt);
  };
  const KvCache target = any(config.target);
  EXPECT_TRUE(at::equal(fuser.fuse(any(config.source), target, {}).keys(), target.keys()));
}

TEST(C2CFuser, LayerMappings) {
  using V = std::vector<int64_t>;
  EXPECT_EQ(map_layers(LayerMapping::kNearest, 28, 24),
            (V{0,  1,  2,  3,  3,  4,  5,  6,  7,  8,  9,  9,  10, 11,
               12, 13, 14, 14, 15, 16, 17, 18, 19, 20, 20, 21, 22, 23}));
  const V last = map_layers(LayerMapping::kLastAligned, 28, 24);
  EXPECT_EQ(V(last.begin(), last.begin() + 6), (V{0, 0, 0, 0, 0, 1}));
  EXPECT_EQ(last.back(), 23);
  EXPECT_EQ(map_layers(LayerMapping::kLastAligned, 28, 36)[0], 8);
  EXPECT_THROW(layer_mapping_from_name("nearest"), Error);
}

TEST(C2CFuser, SizeOfThePrimaryPair) {
  // Qwen3-0.6B receives from Qwen2.5-0.5B: 17,066,002 parameters a layer. Counted on one layer to
  // stay small.
  C2CConfig config;
  config.source = {24, 2, 64};
  config.target = {1, 8, 128};
  config.source_layer = {23};
  const C2CFuser fuser(config, at::kCPU, at::kFloat);
  int64_t count = 0;
  for (const auto& [name, tensor] : fuser.parameters()) count += tensor.numel();
  EXPECT_EQ(count, 17066002);
  EXPECT_EQ(fuser.layer_state(0).size(), 33u);
}

TEST(C2CFuser, StrictLoading) {
  Golden golden;
  auto state = golden.fuser.layer_state(0);
  auto missing = state;
  missing.pop_back();
  EXPECT_THROW(golden.fuser.load_layer_state(0, missing), Error);
  auto extra = state;
  extra.emplace_back("key_surprise", at::zeros({1}));
  EXPECT_THROW(golden.fuser.load_layer_state(0, extra), Error);
  auto wrong = state;
  wrong.back().second = at::zeros({3});
  EXPECT_THROW(golden.fuser.load_layer_state(0, wrong), Error);
}

}  // namespace
}  // namespace kvlingua
