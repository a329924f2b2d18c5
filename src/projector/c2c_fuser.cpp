#include "kvlingua/projector/c2c_fuser.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include "kvlingua/base/error.h"
#include "kvlingua/kernels/gated_add.h"
#include "kvlingua/projector/c2c_all_in_one.h"

namespace kvlingua {
namespace {

constexpr double kGumbelEps = 1e-20;

[[noreturn]] void bad_config(const std::string& what, const std::string& got,
                             const std::string& expected) {
  throw Error({.code = ExitCode::kUsage,
               .where = "projector c2c",
               .what = what,
               .got = got,
               .expected = expected});
}

// [L, B, H, N, D] -> [L, B * N, H * D]
at::Tensor flatten_heads(const at::Tensor& x) {
  return x.permute({0, 1, 3, 2, 4})
      .reshape({x.size(0), x.size(1) * x.size(3), x.size(2) * x.size(4)});
}

void check_cache(const char* role, const KvCache& cache, const KvShape& shape) {
  if (cache.shape() == shape) return;
  throw Error({.code = ExitCode::kInput,
               .where = "projector c2c",
               .what = cat("the ", role, " cache does not fit"),
               .got = cache.shape().describe(),
               .expected = shape.describe()});
}

AllInOneShape all_in_one_shape(const C2CConfig& c) {
  return {c.source.width(), c.target.kv_heads, c.target.head_dim,
          c.hidden_dim,     c.num_layers,      c.dropout};
}

}  // namespace

LayerMapping layer_mapping_from_name(const std::string& name) {
  if (name == "last_aligned") return LayerMapping::kLastAligned;
  if (name == "k_nearest") return LayerMapping::kNearest;
  throw Error({.code = ExitCode::kUsage,
               .where = "projector.c2c.mapping",
               .what = "unknown layer mapping",
               .got = name,
               .expected = "last_aligned or k_nearest"});
}

std::vector<int64_t> map_layers(LayerMapping mapping, int64_t target_layers,
                                int64_t source_layers) {
  const auto position = [](int64_t i, int64_t n) {
    return n <= 1 ? 0.0 : static_cast<double>(i) / static_cast<double>(n - 1);
  };
  std::vector<int64_t> out(static_cast<size_t>(target_layers));
  for (int64_t t = 0; t < target_layers; ++t) {
    int64_t s = std::clamp<int64_t>(t + source_layers - target_layers, 0, source_layers - 1);
    if (mapping == LayerMapping::kNearest) {
      double best = 2.0;
      for (int64_t i = 0; i < source_layers; ++i) {
        const double distance = std::abs(position(i, source_layers) - position(t, target_layers));
        if (distance < best) {  // ties go to the lower index
          best = distance;
          s = i;
        }
      }
    }
    out[static_cast<size_t>(t)] = s;
  }
  return out;
}

C2CFuser::C2CFuser(C2CConfig config, at::Device device, at::ScalarType dtype, uint64_t seed)
    : config_(std::move(config)) {
  const C2CConfig& c = config_;
  if (c.num_layers < 3 && !c.all_in_one)
    bad_config("num_layers is too small", cat(c.num_layers), "3 or more");
  if (c.hidden_dim < 1 || c.intermediate_dim < 1) {
    bad_config("hidden sizes", cat(c.hidden_dim, " and ", c.intermediate_dim), "positive numbers");
  }
  if (c.ablation_level < 0 || c.ablation_level > 4)
    bad_config("ablation_level", cat(c.ablation_level), "0 to 4");
  if (static_cast<int64_t>(c.source_layer.size()) != c.target.layers) {
    bad_config("layer mapping has the wrong length", cat(c.source_layer.size()),
               cat(c.target.layers));
  }
  for (const int64_t s : c.source_layer) {
    if (s < 0 || s >= c.source.layers) {
      bad_config("layer mapping names a source layer", cat(s), cat("0 to ", c.source.layers - 1));
    }
  }

  const at::TensorOptions options = at::TensorOptions().dtype(dtype).device(device);
  at::Generator generator = at::detail::createCPUGenerator(seed);
  const auto uniform = [&](at::IntArrayRef size, int64_t fan_in) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
    return at::empty(size, at::kFloat).uniform_(-bound, bound, generator).to(options);
  };
  if (c.all_in_one) {
    for (const auto& p : all_in_one_parameters(all_in_one_shape(c), *c.all_in_one)) {
      std::vector<int64_t> size{c.target.layers};
      size.insert(size.end(), p.size.begin(), p.size.end());
      add(p.name, p.fan_in > 0 ? uniform(size, p.fan_in) : at::full(size, p.fill, options));
    }
  } else {
    add_towers(uniform, options);
  }
  bind();
  if (c.zero_init && !c.all_in_one) {
    stack_.out_weight.zero_();
    stack_.out_bias.zero_();
  }
  temperature_T_ = at::empty({c.target.layers}, options);
  set_temperature(0);
  source_layer_ = at::tensor(c.source_layer, at::kLong).to(device);
}

void C2CFuser::add_towers(const std::function<at::Tensor(at::IntArrayRef, int64_t)>& uniform,
                          const at::TensorOptions& options) {
  const C2CConfig& c = config_;
  const int64_t towers = 2 * c.target.layers, h = c.hidden_dim;
  const int64_t in_width = c.source.width() + (c.has_target() ? c.target.width() : 0);
  const auto add_block = [&](const std::string& name, int64_t inner) {
    add(name + ".norm.weight", at::ones({towers, h}, options));
    add(name + ".w1.weight", uniform({towers, inner, h}, h));
    add(name + ".w2.weight", uniform({towers, h, inner}, inner));
  };
  if (c.has_gate()) add("gate_logit", at::zeros({towers}, options));
  add("in.weight", uniform({towers, h, in_width}, in_width));
  add("in.bias", uniform({towers, h}, in_width));
  add_block("mlp1.blocks.0", c.intermediate_dim);
  if (c.has_scalar()) {
    add_block("scalar_mlp2.blocks.0", h);
    add("scalar_head.weight", uniform({towers, c.target.kv_heads, h}, h));
    add("scalar_head.bias", uniform({towers, c.target.kv_heads}, h));
  }
  for (int64_t i = 0; i < c.num_layers - 2; ++i)
    add_block(cat("proj_mlp2.blocks.", i), c.intermediate_dim);
  add("proj_out.weight", uniform({towers, c.target.width(), h}, h));
  add("proj_out.bias", uniform({towers, c.target.width()}, h));
}

void C2CFuser::add(const std::string& name, at::Tensor tensor) {
  parameters_.emplace_back(name, std::move(tensor));
}

const at::Tensor& C2CFuser::named(const std::string& name) const {
  for (const auto& [key, tensor] : parameters_) {
    if (key == name) return tensor;
  }
  throw Error({.where = "projector c2c", .what = "no parameter " + name});
}

void C2CFuser::bind() {
  const auto block = [&](const std::string& name) {
    return TowerBlock{named(name + ".norm.weight"), named(name + ".w1.weight"),
                      named(name + ".w2.weight")};
  };
  if (config_.has_gate()) gate_logit_ = named("gate_logit");
  if (config_.all_in_one) return;
  stack_ = {};
  stack_.in_weight = named("in.weight");
  stack_.in_bias = named("in.bias");
  stack_.common = block("mlp1.blocks.0");
  if (config_.has_scalar()) {
    stack_.scalar = block("scalar_mlp2.blocks.0");
    stack_.scalar_weight = named("scalar_head.weight");
    stack_.scalar_bias = named("scalar_head.bias");
  }
  for (int64_t i = 0; i < config_.num_layers - 2; ++i)
    stack_.projection.push_back(block(cat("proj_mlp2.blocks.", i)));
  stack_.out_weight = named("proj_out.weight");
  stack_.out_bias = named("proj_out.bias");
}

void C2CFuser::to(at::Device device, at::ScalarType dtype) {
  for (auto& [name, tensor] : parameters_) tensor = tensor.detach().to(device, dtype);
  temperature_T_ = temperature_T_.to(device, dtype);
  source_layer_ = source_layer_.to(device);
  bind();
}

double C2CFuser::temperature() const { return temperature_T_.select(0, 0).item<double>(); }

void C2CFuser::set_temperature(int64_t step) {
  const double ratio =
      std::min(static_cast<double>(step) / static_cast<double>(config_.anneal_steps), 1.0);
  temperature_T_.fill_(config_.initial_temperature *
                       std::pow(config_.final_temperature / config_.initial_temperature, ratio));
}

at::Tensor C2CFuser::gumbel_uniform(at::IntArrayRef size, const Mode& mode) const {
  const at::TensorOptions options = gate_logit_.options().requires_grad(false);
  if (mode.uniform.defined()) return mode.uniform.to(options);
  if (mode.fixed_uniform) return at::full(size, *mode.fixed_uniform, options);
  return at::rand(size, mode.generator, options);
}

KvCache C2CFuser::fuse_all_in_one(const KvCache& source, const KvCache& target,
                                  const Mode& mode) const {
  const C2CConfig& c = config_;
  AllInOneLayer layer;
  layer.training = mode.training;
  if (mode.fixed_uniform) layer.weight_dropout = 0;
  at::Tensor uniform;
  if (mode.training && c.all_in_one->gumbel) {
    uniform = gumbel_uniform(
        {c.target.layers, target.batch(), c.target.kv_heads, target.tokens(), c.target.head_dim},
        mode);
  }
  std::vector<std::vector<at::Tensor>> parts;  // of each parameter, by layer
  for (const auto& [name, stack] : parameters_) parts.push_back(stack.unbind(0));
  std::vector<at::Tensor> keys, values;
  for (int64_t t = 0; t < c.target.layers; ++t) {
    const int64_t s = c.source_layer[static_cast<size_t>(t)];
    layer.source_key = source.keys()[s];
    layer.source_value = source.values()[s];
    layer.target_key = target.keys()[t];
    layer.target_value = target.values()[t];
    layer.temperature = temperature_T_[t];
    if (uniform.defined()) layer.uniform = uniform[t];
    layer.state.clear();
    for (size_t i = 0; i < parts.size(); ++i)
      layer.state.emplace_back(parameters_[i].first, parts[i][static_cast<size_t>(t)]);
    const auto [key, value] = all_in_one_layer(all_in_one_shape(c), *c.all_in_one, layer);
    keys.push_back(key);
    values.push_back(value);
  }
  return KvCache(at::stack(keys), at::stack(values), target.positions(), target.rope(),
                 target.mask());
}

KvCache C2CFuser::fuse(const KvCache& source, const KvCache& target, const Mode& mode) const {
  const C2CConfig& c = config_;
  check_cache("source", source, c.source);
  check_cache("target", target, c.target);
  if (source.tokens() != target.tokens() || source.batch() != target.batch()) {
    throw Error({.code = ExitCode::kInput,
                 .where = "projector c2c",
                 .what = "source and target cover different tokens",
                 .got = cat(source.batch(), " x ", source.tokens()),
                 .expected = cat(target.batch(), " x ", target.tokens())});
  }
  if (c.all_in_one) return fuse_all_in_one(source, target, mode);
  const int64_t layers = c.target.layers, batch = target.batch(), tokens = target.tokens();
  const int64_t heads = c.target.kv_heads;

  at::Tensor x = at::cat({flatten_heads(source.keys().index_select(0, source_layer_)),
                          flatten_heads(source.values().index_select(0, source_layer_))});
  if (c.has_target()) {
    x = at::cat({x, at::cat({flatten_heads(target.keys()), flatten_heads(target.values())})}, -1);
  }
  x = x.to(stack_.in_weight.scalar_type());
  const TowerOutput towers =
      run_towers(stack_, x, mode.training ? config_.dropout : 0.0, mode.recompute);
  const at::Tensor projected =
      towers.projected.view({2, layers, batch, tokens, heads, c.target.head_dim});
  const std::vector<int64_t> size{2, layers, batch, tokens, heads};
  const at::Tensor score = c.has_scalar() ? towers.score.view(size) : at::Tensor();

  at::Tensor factor;  // gate * w, [2, T, B, N, heads]
  if (c.has_gate()) {
    const at::Tensor logit = gate_logit_.view({2, layers, 1, 1, 1});
    if (mode.training) {
      const at::Tensor u = gumbel_uniform(size, mode);
      const at::Tensor noise = -at::log(-at::log(u + kGumbelEps) + kGumbelEps);
      if (c.ablation_level == 0) {
        const auto [keys, values] =
            gated_add({target.keys(), target.values(), projected, score, noise,
                       gate_logit_.view({2, layers}), temperature_T_});
        return KvCache(keys, values, target.positions(), target.rope(), target.mask());
      }
      factor = at::sigmoid((logit + noise) / temperature_T_.view({1, layers, 1, 1, 1}));
    } else {
      factor = (logit > 0).to(at::kFloat);
    }
  }
  if (score.defined()) {
    const at::Tensor weight = at::sigmoid(score);
    factor = factor.defined() ? factor * weight : weight;
  }
  at::Tensor out = factor.defined() ? factor.unsqueeze(-1) * projected : projected;
  out = out.permute({0, 1, 2, 4, 3, 5});  // [2, T, B, H, N, D]
  at::Tensor keys = out.select(0, 0), values = out.select(0, 1);
  if (c.has_target()) {
    keys = target.keys() + keys;
    values = target.values() + values;
  }
  return KvCache(keys, values, target.positions(), target.rope(), target.mask());
}

std::vector<std::pair<std::string, at::Tensor>> C2CFuser::layer_state(int64_t layer) const {
  std::vector<std::pair<std::string, at::Tensor>> out;
  if (config_.all_in_one) {
    // A module's own parameters, its buffer, then its parts'.
    bool before_parts = true;
    for (const auto& [name, tensor] : parameters_) {
      if (before_parts && name.find('.') != std::string::npos) {
        before_parts = false;
        out.emplace_back("gate_temperature", temperature_T_.select(0, layer));
      }
      out.emplace_back(name, tensor.detach().select(0, layer));
    }
    return out;
  }
  const auto emit = [&](const std::string& prefix) {
    for (const int kv : {0, 1}) {
      for (const auto& [name, tensor] : parameters_) {
        if (name.rfind(prefix, 0) != 0) continue;
        out.emplace_back((kv == 0 ? "key_" : "value_") + name,
                         tensor.detach().select(0, kv * config_.target.layers + layer));
      }
    }
  };
  emit("gate_logit");
  if (config_.has_gate()) out.emplace_back("gate_temperature", temperature_T_.select(0, layer));
  for (const char* prefix :
       {"in.", "mlp1.", "scalar_mlp2.", "scalar_head.", "proj_mlp2.", "proj_out."}) {
    emit(prefix);
  }
  return out;
}

std::pair<std::string, int64_t> C2CFuser::place_of(const std::string& name, int64_t layer) const {
  if (config_.all_in_one) return {name, layer};
  const bool key = name.starts_with("key_");
  return {name.substr(key ? 4 : 6), (key ? 0 : config_.target.layers) + layer};
}

void C2CFuser::load_layer_state(int64_t layer,
                                const std::vector<std::pair<std::string, at::Tensor>>& state) {
  const auto fail = [&](const std::string& what, const std::string& got,
                        const std::string& expected) {
    throw Error({.code = ExitCode::kInput,
                 .where = cat("projector_", layer),
                 .what = what,
                 .got = got,
                 .expected = expected});
  };
  std::map<std::string, at::Tensor> wanted, given;
  for (const auto& [name, tensor] : layer_state(layer)) wanted.emplace(name, tensor);
  for (const auto& [name, tensor] : state) {
    const auto it = wanted.find(name);
    if (it == wanted.end()) {
      fail("tensor " + printable(name) + " has no place here", "an extra tensor",
           cat(wanted.size(), " known ones"));
    }
    if (!given.emplace(name, tensor).second)
      fail("tensor " + printable(name), "it twice", "it once");
    if (it->second.sizes() != tensor.sizes()) {
      fail("tensor " + printable(name) + " has the wrong shape", cat(tensor.sizes()),
           cat(it->second.sizes()));
    }
  }
  for (const auto& [name, tensor] : wanted) {
    if (!given.count(name))
      fail("tensor " + name + " is missing", cat(given.size(), " tensors"), cat(wanted.size()));
  }
  const c10::NoGradGuard no_grad;
  for (const auto& [name, tensor] : given) wanted.at(name).copy_(tensor);
}

}  // namespace kvlingua
