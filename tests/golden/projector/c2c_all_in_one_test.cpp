// Cache-to-Cache's AllInOneProjector under several options beside its own code
// (scripts/goldens/c2c_all_in_one.py): evaluation, a training step, gradients.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kvlingua/base/error.h"
#include "kvlingua/projector/c2c_fuser.h"

namespace kvlingua {
namespace {

using nlohmann::json;

at::Tensor tensor_of(const json& numbers, at::IntArrayRef size) {
  return at::tensor(numbers.get<std::vector<double>>(), at::kDouble).to(at::kFloat).view(size);
}

C2CConfig config_of(const json& args) {
  AllInOneOptions o;
  o.weight_hidden_dim = args.value("weight_hidden_dim", o.weight_hidden_dim);
  o.activation = args.value("activation", o.activation);
  o.layer_norm = args.value("use_layer_norm", o.layer_norm);
  o.residual = args.value("use_residual", o.residual);
  o.swiglu = args.value("use_swiglu", o.swiglu);
  o.concat = args.value("use_concat", o.concat);
  o.weight_depends_on_input = args.value("weight_depends_on_input", o.weight_depends_on_input);
  o.weight_input = args.value("weight_input_features", o.weight_input);
  o.weight_init = args.value("weight_init_value", o.weight_init);
  o.scalar_temperature = args.value("scalar_temperature", o.scalar_temperature);
  o.preserve_target_weight = args.value("preserve_target_weight", o.preserve_target_weight);
  o.add_self = args.value("add_self", o.add_self);
  o.gumbel = args.value("use_gumbel", o.gumbel);
  C2CConfig c;
  c.all_in_one = o;
  c.source = {1, args["source_num_heads"], args["source_dim"]};
  c.target = {1, args["target_num_heads"], args["target_dim"]};
  c.source_layer = {0};
  c.hidden_dim = args["hidden_dim"];
  c.num_layers = args.value("num_layers", 2);
  c.dropout = args["dropout"];
  c.final_temperature = 0.01;
  c.anneal_steps = 1360;
  return c;
}

class AllInOne : public ::testing::TestWithParam<const char*> {
 protected:
  static json golden() {
    const auto folder = std::filesystem::path(KVLINGUA_TEST_DATA) / "c2c" / "all_in_one";
    std::ifstream in(folder / "options.json");
    return json::parse(in).at("cases");
  }
  json case_ = golden().at(GetParam());
  C2CConfig config_ = config_of(case_["init_args"]);
  C2CFuser fuser_ = loaded();

  C2CFuser loaded() const {
    C2CFuser fuser(config_, at::kCPU, at::kFloat);
    std::vector<std::pair<std::string, at::Tensor>> state;
    for (const auto& [name, entry] : case_["state"].items())
      state.emplace_back(name, tensor_of(entry[1], entry[0].get<std::vector<int64_t>>()));
    fuser.load_layer_state(0, state);
    return fuser;
  }
  KvCache cache(const char* side, const KvShape& shape) const {
    const std::vector<int64_t> size{1, 2, shape.kv_heads, 3, shape.head_dim};
    return KvCache(tensor_of(case_[side][0], size), tensor_of(case_[side][1], size),
                   at::arange(3).expand({2, 3}), std::nullopt);
  }
  KvCache fuse(const C2CFuser::Mode& mode) const {
    return fuser_.fuse(cache("source", config_.source), cache("target", config_.target), mode);
  }
  void expect_near(const KvCache& got, const char* what) const {
    for (const int kv : {0, 1}) {
      const at::Tensor& x = kv == 0 ? got.keys() : got.values();
      EXPECT_LT((x - tensor_of(case_[what][kv], x.sizes())).abs().max().item<float>(), 1e-5)
          << what << (kv == 0 ? " keys" : " values");
    }
  }
};

TEST_P(AllInOne, Evaluation) { expect_near(fuse({}), "evaluation"); }

TEST_P(AllInOne, TrainingAndGradients) {
  fuser_.set_temperature(500);
  EXPECT_NEAR(fuser_.temperature(), case_["temperature"].get<double>(), 1e-6);
  for (const auto& [name, tensor] : fuser_.parameters()) tensor.requires_grad_(true);
  const KvCache out = fuse({.training = true, .fixed_uniform = 0.5});
  expect_near(out, "training");
  const at::Tensor loss = out.keys().square().sum() + out.values().square().sum();
  torch::autograd::backward({loss}, {});
  for (const auto& [name, tensor] : fuser_.parameters()) {
    const bool given = case_["gradients"].contains(name);
    EXPECT_TRUE(given || !tensor.grad().defined() || tensor.grad().eq(0).all().item<bool>())
        << name;
    if (!given) continue;
    const at::Tensor expected = tensor_of(case_["gradients"][name], tensor.sizes());
    EXPECT_LT((tensor.grad() - expected).abs().max().item<float>(),
              1e-4 * std::max(1.0f, expected.abs().max().item<float>()))
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Options, AllInOne,
                         ::testing::Values("defaults", "recipe", "one_layer", "relu", "silu",
                                           "value"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace kvlingua
