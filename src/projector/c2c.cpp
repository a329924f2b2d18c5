#include "kvlingua/projector/c2c.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

int64_t all_in_one_parameters(const C2cOptions& c2c, const KvShape& source, const KvShape& target) {
  const AllInOneOptions& o = c2c.all_in_one;
  const int64_t h = c2c.hidden_dim, cs = source.width(), ct = target.width();
  int64_t network = 0;  // keys' or values'
  for (int64_t i = 0; i < c2c.num_layers; ++i) {
    const bool last = i == c2c.num_layers - 1;
    const int64_t out = last ? ct : h;
    network += ((i == 0 ? cs : h) + 1) * out * (o.swiglu && !last ? 2 : 1);
    if (o.layer_norm && !last) network += 2 * h;
  }
  if (o.concat) network += (2 * ct + 1) * ct;
  int64_t weights = 2;
  if (o.weight_depends_on_input) {
    const int64_t w = o.weight_hidden_dim,
                  in = o.weight_input == "target_projected_both"                            ? 4
                       : o.weight_input == "target_key" || o.weight_input == "target_value" ? 1
                                                                                            : 2;
    weights = (in * ct + 1) * w + 2 * w + (w + 1) * w + 2 * (w + 1) * target.kv_heads;
  }
  return target.layers * (2 * network + weights + 1);
}

}  // namespace

ParameterCount count_parameters(const C2cOptions& c2c, const KvShape& source,
                                const KvShape& target) {
  if (c2c.type == "AllInOneProjector") return {.over = all_in_one_parameters(c2c, source, target)};
  const int64_t h = c2c.hidden_dim, i = c2c.intermediate_dim, cs = source.width(),
                ct = target.width();
  const int64_t tower = (cs + ct + 1) * h + (h + 2 * i * h) + (h + 2 * h * h) +
                        (h + 1) * target.kv_heads + (c2c.num_layers - 2) * (h + 2 * i * h) +
                        (h + 1) * ct + 1;
  return {.over = 2 * target.layers * tower};
}

namespace {

C2CConfig config_from(const KvShape& source, const KvShape& target, const C2cOptions& o) {
  C2CConfig c;
  c.source = source;
  c.target = target;
  c.source_layer = o.source_layer.empty() ? map_layers(layer_mapping_from_name(o.mapping),
                                                       target.layers, source.layers)
                                          : o.source_layer;
  c.hidden_dim = o.hidden_dim;
  c.intermediate_dim = o.intermediate_dim;
  c.num_layers = o.num_layers;
  c.dropout = o.dropout;
  c.initial_temperature = o.initial_temperature;
  c.final_temperature = o.final_temperature;
  c.anneal_steps = o.anneal_steps;
  c.zero_init = o.zero_init;
  c.ablation_level = static_cast<int>(o.ablation);
  if (o.type == "AllInOneProjector") c.all_in_one = o.all_in_one;
  return c;
}

// A visitor of option structs: every field under its name.
struct FieldsToJson {
  nlohmann::json& out;
  template <class T>
  void field(std::string_view name, const T& value, const FieldInfo&) {
    out[std::string(name)] = value;
  }
};

bool fuses(const std::string& mode) {
  if (mode != "fuse" && mode != "translate") {
    throw Error({.code = ExitCode::kUsage,
                 .where = "projector.c2c.mode",
                 .what = "unknown mode",
                 .got = printable(mode),
                 .expected = "fuse or translate"});
  }
  return mode == "fuse";
}

// [B, T] indices into the tokens of [L, B, H, Ts, D].
at::Tensor gather_tokens(const at::Tensor& x_LBHTD, const at::Tensor& index_BT) {
  const at::Tensor index =
      index_BT.to(x_LBHTD.device()).view({1, index_BT.size(0), 1, index_BT.size(1), 1});
  return x_LBHTD.gather(3,
                        index.expand({x_LBHTD.size(0), -1, x_LBHTD.size(2), -1, x_LBHTD.size(4)}));
}

KvCache aligned(const KvCache& source, const at::Tensor& index_BT) {
  if (!index_BT.defined()) return source;
  return KvCache(gather_tokens(source.keys(), index_BT), gather_tokens(source.values(), index_BT),
                 source.positions().gather(1, index_BT.to(source.positions().device())),
                 source.rope());
}

// [N, L, H, D] -> [L, 1, H, N, D]
KvCache cache_of_rows(const CacheRows& rows) {
  const auto turn = [](const at::Tensor& x) { return x.permute({1, 2, 0, 3}).unsqueeze(1); };
  const at::Tensor positions =
      at::arange(rows.rows(), at::TensorOptions().dtype(at::kLong).device(rows.keys_NLHD.device()));
  return KvCache(turn(rows.keys_NLHD), turn(rows.values_NLHD), positions.unsqueeze(0),
                 std::nullopt);
}

}  // namespace

C2CProjector::C2CProjector(KvShape source, KvShape target, const C2cOptions& options, uint64_t seed)
    : Projector(source, target),
      fuser_(config_from(source, target, options), at::kCPU, at::kFloat, seed),
      fuses_(kvlingua::fuses(options.mode)) {}

C2CProjector::C2CProjector(C2CFuser fuser, const std::string& mode)
    : Projector(fuser.config().source, fuser.config().target),
      fuser_(std::move(fuser)),
      fuses_(kvlingua::fuses(mode)) {}

C2CFuser::Mode C2CProjector::mode(uint64_t draw) const {
  C2CFuser::Mode mode;
  mode.training = training();
  if (draw != 0 && device().is_cpu()) mode.generator = at::detail::createCPUGenerator(draw);
  return mode;
}

KvCache C2CProjector::translate(const TranslateInput& input) const {
  if (!fuses_) return Projector::translate(input);
  check_source(input.source.shape());
  if (input.own == nullptr || input.own->empty() || !input.own->rope() || !input.source.rope()) {
    throw Error(
        {.code = ExitCode::kInput,
         .where = "projector c2c",
         .what = "fuse mode needs the target's own cache, and rotated keys on both sides",
         .remedy = "set projector.c2c.mode to translate for a target that does not read the text"});
  }
  const KvCache source = aligned(input.source, input.source_index_BT);
  return fuser_.fuse(source, *input.own, mode(input.draw))
      .to(input.own->keys().device(), input.own->keys().scalar_type());
}

CacheRows C2CProjector::translate_rows(const CacheRows& source, const CacheRows* own,
                                       uint64_t draw) const {
  const KvCache from = cache_of_rows(source);
  KvCache onto;
  if (own != nullptr) {
    onto = cache_of_rows(*own);
  } else {
    const KvShape& t = target_shape();
    const at::Tensor zero = at::zeros({t.layers, 1, t.kv_heads, from.tokens(), t.head_dim},
                                      from.keys().options().requires_grad(false));
    onto = KvCache(zero, zero, from.positions(), std::nullopt);
  }
  const KvCache out = fuser_.fuse(from, onto, mode(draw));
  const auto back = [](const at::Tensor& x) { return x.squeeze(1).permute({2, 0, 1, 3}); };
  return {back(out.keys()), back(out.values())};
}

NamedTensors C2CProjector::buffers() const {
  if (!fuser_.config().has_gate()) return {};
  return {{"gate_temperature", fuser_.temperature_tensor()}};
}

nlohmann::json C2CProjector::config() const {
  const C2CConfig& c = fuser_.config();
  nlohmann::json out = Projector::config();
  out["options"] = {{"hidden_dim", c.hidden_dim},
                    {"intermediate_dim", c.intermediate_dim},
                    {"num_layers", c.num_layers},
                    {"dropout", c.dropout},
                    {"initial_temperature", c.initial_temperature},
                    {"final_temperature", c.final_temperature},
                    {"anneal_steps", c.anneal_steps},
                    {"source_layer", c.source_layer},
                    {"ablation", c.ablation_level},
                    {"mode", fuses_ ? "fuse" : "translate"}};
  if (c.all_in_one) {
    AllInOneOptions options = *c.all_in_one;
    FieldsToJson visitor{out["options"]["all_in_one"]};
    options.visit(visitor);
  }
  return out;
}

}  // namespace kvlingua
