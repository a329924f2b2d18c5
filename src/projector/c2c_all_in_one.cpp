#include "kvlingua/projector/c2c_all_in_one.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kvlingua/base/error.h"
#include "kvlingua/kernels/dense.h"

namespace kvlingua {
namespace {

// Its building block: layers, each but the last with norm, activation and dropout behind it.
struct Network {
  std::string name;
  int64_t in = 0, out = 0, hidden = 0, layers = 0;
  std::string activation = "gelu";
  bool norm = true, residual = false, swiglu = false;
  double dropout = 0;

  bool adds_input() const { return residual && in == out; }
  int64_t width(int64_t i) const { return i == layers - 1 ? out : hidden; }

  // Calls at(index in the reference's module list, what stands there, layer).
  template <class At>
  void each_module(At at) const {
    int64_t index = 0;
    for (int64_t i = 0; i < layers; ++i) {
      const bool last = i == layers - 1;
      at(index++, swiglu && !last ? 's' : 'l', i);
      if (last) return;
      if (norm) at(index++, 'n', i);
      if (!swiglu) at(index++, 'a', i);
      if (dropout > 0) at(index++, 'd', i);
    }
  }
};

Network projection(const std::string& name, const AllInOneShape& s, const AllInOneOptions& o) {
  return {name + "_projection", s.source_width, s.target_width(), s.hidden_dim, s.num_layers,
          o.activation,         o.layer_norm,   o.residual,       o.swiglu,     s.dropout};
}

int64_t inputs_of(const std::string& features) {
  if (features == "target_projected_both") return 4;
  return features == "target_key" || features == "target_value" ? 1 : 2;
}

// The reference builds it with dropout whatever its recipe says, so a module stands there.
Network weight_network(const AllInOneShape& s, const AllInOneOptions& o) {
  return {.name = "weight_hidden",
          .in = inputs_of(o.weight_input) * s.target_width(),
          .out = o.weight_hidden_dim,
          .hidden = o.weight_hidden_dim,
          .layers = 2,
          .dropout = kWeightDropout};
}

class Layer {
 public:
  explicit Layer(const AllInOneLayer& given) : given_(given) {}

  const at::Tensor& operator()(const std::string& name) const {
    const auto at = std::find_if(given_.state.begin(), given_.state.end(),
                                 [&](const auto& entry) { return entry.first == name; });
    if (at == given_.state.end())
      throw Error({.where = "projector c2c", .what = "no parameter " + name});
    return at->second;
  }

  at::Tensor linear(const std::string& name, const at::Tensor& x) const {
    return dense(x, (*this)(name + ".weight"), (*this)(name + ".bias"));
  }

  at::Tensor run(const Network& network, const at::Tensor& input, double dropout) const {
    at::Tensor x = input;
    network.each_module([&](int64_t index, char kind, int64_t i) {
      const std::string name = cat(network.name, ".layers.", index);
      if (kind == 'l') {
        x = linear(name, x);
      } else if (kind == 's') {
        x = at::silu(linear(name + ".gate_proj", x)) * linear(name + ".up_proj", x);
      } else if (kind == 'n') {
        x = at::layer_norm(x, {network.width(i)}, (*this)(name + ".weight"),
                           (*this)(name + ".bias"));
      } else if (kind == 'd') {
        if (given_.training && dropout > 0) x = at::dropout(x, dropout, true);
      } else {
        x = network.activation == "gelu"   ? at::gelu(x)
            : network.activation == "relu" ? at::relu(x)
                                           : at::silu(x);
      }
    });
    return network.adds_input() ? x + input : x;
  }

 private:
  const AllInOneLayer& given_;
};

// [B, H, N, D] -> [B, N, H * D]
at::Tensor flat(const at::Tensor& x) { return x.transpose(1, 2).flatten(2); }

}  // namespace

std::vector<AllInOneParameter> all_in_one_parameters(const AllInOneShape& s,
                                                     const AllInOneOptions& o) {
  if (s.num_layers < 1 || s.hidden_dim < 1) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "projector c2c",
                 .what = "sizes of AllInOneProjector",
                 .got = cat(s.num_layers, " layers of ", s.hidden_dim),
                 .expected = "positive numbers"});
  }
  std::vector<AllInOneParameter> all;
  const auto linear = [&](const std::string& name, int64_t in, int64_t out) {
    all.push_back({name + ".weight", {out, in}, in});
    all.push_back({name + ".bias", {out}, in});
  };
  const auto network = [&](const Network& n) {
    n.each_module([&](int64_t index, char kind, int64_t i) {
      const std::string name = cat(n.name, ".layers.", index);
      const int64_t in = i == 0 ? n.in : n.hidden;
      if (kind == 'l') {
        linear(name, in, n.width(i));
      } else if (kind == 's') {
        linear(name + ".gate_proj", in, n.width(i));
        linear(name + ".up_proj", in, n.width(i));
      } else if (kind == 'n') {
        all.push_back({name + ".weight", {n.width(i)}, 0, 1.0});
        all.push_back({name + ".bias", {n.width(i)}});
      }
    });
  };
  all.push_back({"gate_logit", {}});
  if (!o.weight_depends_on_input) {
    all.push_back({"key_weight", {}, 0, o.weight_init});
    all.push_back({"value_weight", {}, 0, o.weight_init});
  }
  network(projection("key", s, o));
  network(projection("value", s, o));
  if (o.weight_depends_on_input) {
    network(weight_network(s, o));
    linear("key_weight_head", o.weight_hidden_dim, s.heads);
    linear("value_weight_head", o.weight_hidden_dim, s.heads);
  }
  if (o.concat) {
    linear("key_combiner", 2 * s.target_width(), s.target_width());
    linear("value_combiner", 2 * s.target_width(), s.target_width());
  }
  return all;
}

std::pair<at::Tensor, at::Tensor> all_in_one_layer(const AllInOneShape& s, const AllInOneOptions& o,
                                                   const AllInOneLayer& in) {
  const Layer layer(in);
  const int64_t batch = in.target_key.size(0), tokens = in.target_key.size(2);
  const at::ScalarType dtype = layer("gate_logit").scalar_type();
  const at::Tensor target[] = {in.target_key, in.target_value};
  const at::Tensor source[] = {in.source_key, in.source_value};
  at::Tensor projected[2];  // [B, H, N, D]
  for (const int kv : {0, 1}) {
    const std::string name = kv == 0 ? "key" : "value";
    at::Tensor x = layer.run(projection(name, s, o), flat(source[kv]).to(dtype), s.dropout);
    if (o.concat)
      x = layer.linear(name + "_combiner", at::cat({x, flat(target[kv]).to(dtype)}, -1));
    projected[kv] = x.view({batch, tokens, s.heads, s.head_dim}).transpose(1, 2);
  }

  at::Tensor weight[2];
  if (o.weight_depends_on_input) {
    const std::string& f = o.weight_input;
    std::vector<at::Tensor> read;
    const bool both = f == "both" || f == "target_projected_both";
    const bool of_projected = f.starts_with("target_projected");
    for (const bool own : {true, false}) {
      if (!own && !of_projected) continue;
      const at::Tensor* part = own ? target : projected;
      if (both || f.ends_with("key")) read.push_back(part[0].to(dtype));
      if (both || f.ends_with("value")) read.push_back(part[1].to(dtype));
    }
    const at::Tensor hidden =
        layer.run(weight_network(s, o), flat(at::cat(read, -1)), in.weight_dropout);
    for (const int kv : {0, 1}) {
      const at::Tensor score = layer.linear(kv == 0 ? "key_weight_head" : "value_weight_head",
                                            hidden);  // [B, N, H]
      weight[kv] = score.transpose(1, 2).unsqueeze(-1);
    }
  } else {
    weight[0] = layer("key_weight").view({1, 1, 1, 1});
    weight[1] = layer("value_weight").view({1, 1, 1, 1});
  }

  const at::Tensor logit =
      layer("gate_logit").view({1, 1, 1, 1}).expand({batch, s.heads, tokens, s.head_dim});
  at::Tensor gate;
  if (in.training && o.gumbel) {
    constexpr double kEps = 1e-20;
    const at::Tensor noise = -at::log(-at::log(in.uniform.to(dtype).detach() + kEps) + kEps);
    gate = at::sigmoid((logit + noise) / in.temperature);
  } else {
    gate = (logit > 0).to(at::kFloat);
  }
  at::Tensor out[2];
  for (const int kv : {0, 1}) {
    const at::Tensor w = at::sigmoid(weight[kv] / o.scalar_temperature);
    out[kv] = gate * w * projected[kv];
    if (o.add_self)
      out[kv] = (o.preserve_target_weight ? (1 - w) * target[kv] : target[kv]) + out[kv];
  }
  return {out[0], out[1]};
}

}  // namespace kvlingua
