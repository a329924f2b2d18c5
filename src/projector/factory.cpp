#include "kvlingua/projector/factory.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <type_traits>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/io/json_number.h"
#include "kvlingua/projector/c2c.h"
#include "kvlingua/projector/dense_latent.h"
#include "kvlingua/projector/identity.h"
#include "kvlingua/projector/lcf.h"
#include "kvlingua/projector/mlp.h"
#include "kvlingua/projector/noise.h"
#include "kvlingua/projector/ridge.h"

namespace kvlingua {
namespace {

using nlohmann::json;

struct Kind {
  std::string name;
  std::function<std::unique_ptr<Projector>(const KvShape&, const KvShape&, const ProjectorOptions&)>
      make;
  // What it trains; null: nothing.
  std::function<ParameterCount(const KvShape&, const KvShape&, const ProjectorOptions&)> count;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> list{
      {"identity",
       [](const KvShape& s, const KvShape& t, const ProjectorOptions&) {
         return std::make_unique<IdentityProjector>(s, t);
       }},
      {"noise",
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return std::make_unique<NoiseProjector>(s, t, o.noise);
       }},
      {"ridge",
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return std::make_unique<RidgeProjector>(s, t, o.ridge);
       },
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return count_parameters(o.ridge, s, t);
       }},
      {"mlp",
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return std::make_unique<MlpProjector>(s, t, o.ridge, o.mlp,
                                               static_cast<uint64_t>(o.mlp.seed));
       },
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return count_parameters(o.ridge, o.mlp, s, t);
       }},
      {"lcf",
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return std::make_unique<LcfProjector>(s, t, o.lcf);
       },
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return count_parameters(o.lcf, s, t);
       }},
      {"dense_latent",
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return std::make_unique<DenseLatentProjector>(s, t, o.dense_latent);
       },
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return count_parameters(o.dense_latent, s, t);
       }},
      {"c2c",
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return std::make_unique<C2CProjector>(s, t, o.c2c);
       },
       [](const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
         return count_parameters(o.c2c, s, t);
       }},
  };
  return list;
}

const Kind& kind_of(const ProjectorOptions& options) {
  for (const Kind& kind : kinds())
    if (kind.name == options.kind) return kind;
  std::string known;
  for (const Kind& kind : kinds()) known += (known.empty() ? "" : ", ") + kind.name;
  throw Error({.code = ExitCode::kUsage,
               .where = "projector.kind",
               .what = "unknown kind",
               .got = printable(options.kind),
               .expected = known});
}

int64_t integer(const json& j, const char* name, int64_t least, int64_t most) {
  return read_member(j, name, [&](const json& v) { return whole_number(v, least, most); });
}
// Absent in checkpoints from before there was such an option.
int64_t integer_or(const json& j, const char* name, int64_t most, int64_t otherwise) {
  return j.contains(name) ? integer(j, name, 0, most) : otherwise;
}
double number(const json& j, const char* name) {
  return read_member(j, name, [](const json& v) { return number_within(v, -1e300, 1e300); });
}

// A list of `fewest` to `most` layers, none above `last`.
std::vector<int64_t> layers_from(const json& list, size_t fewest, size_t most, int64_t last) {
  if (!list.is_array() || list.size() < fewest || list.size() > most)
    throw JsonFieldError(printable(list.dump(), 60), cat(fewest, " to ", most, " layers"));
  std::vector<int64_t> layers;
  read_elements(list, [&](const json& one) { layers.push_back(whole_number(one, 0, last)); });
  return layers;
}

KvShape shape_from(const json& j) {
  const auto extent = [&](const char* name) { return integer(j, name, 1, 4096); };
  return {extent("layers"), extent("kv_heads"), extent("head_dim")};
}

void read_ridge(const json& j, RidgeOptions& o) {
  o.source_layers = integer(j, "source_layers", 0, 1024);
  o.candidate_layers = integer(j, "candidate_layers", 0, 1024);
  o.layout = read_member(j, "layout", text_of_json);
  o.features = read_member(j, "features", text_of_json);
  o.previous_tokens = integer_or(j, "previous_tokens", 64, 0);
  if (j.contains("previous_layers")) {
    o.previous_layers = read_member(
        j, "previous_layers", [](const json& list) { return layers_from(list, 1, 1024, 1023); });
  }
  o.budget = integer_or(j, "budget", 1 << 16, 0);
  o.change_rank = integer_or(j, "change_rank", 1 << 16, 0);
}

// A visitor of option structs: every field from its name.
struct FieldsFromJson {
  const json& from;
  template <class T>
  void field(std::string_view name, T& value, const FieldInfo&) {
    read_member(from, std::string(name), [&](const json& v) {
      if constexpr (std::is_same_v<T, int64_t>)
        value = whole_number(v);
      else
        v.get_to(value);
    });
  }
};

void read_c2c(const json& j, C2cOptions& o) {
  o.hidden_dim = integer(j, "hidden_dim", 1, 1 << 16);
  o.intermediate_dim = integer(j, "intermediate_dim", 1, 1 << 16);
  o.num_layers = integer(j, "num_layers", 1, 64);
  o.dropout = number(j, "dropout");
  o.initial_temperature = number(j, "initial_temperature");
  o.final_temperature = number(j, "final_temperature");
  o.anneal_steps = integer(j, "anneal_steps", 1, INT64_MAX);
  o.source_layer = read_member(j, "source_layer",
                               [](const json& list) { return layers_from(list, 0, 4096, 4096); });
  o.ablation = integer(j, "ablation", 0, 4);
  o.mode = read_member(j, "mode", text_of_json);
  if (!j.contains("all_in_one")) return;
  o.type = "AllInOneProjector";
  FieldsFromJson visitor{j["all_in_one"]};
  o.all_in_one.visit(visitor);
}

constexpr const char* kRemedy =
    "use an older checkpoint; this one is damaged or of another version";

// Ranges of the options that are read from a description, which nobody checked as a recipe is.
struct RangeCheck {
  const std::string& where;
  template <class T>
  void field(std::string_view name, const T& value, const FieldInfo& info) {
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
      const auto number = static_cast<double>(value);
      const bool low = std::isfinite(info.min) && !(number >= info.min),
                 high = std::isfinite(info.max) && !(number <= info.max),
                 under = std::isfinite(info.above) && !(number > info.above);
      if (low || high || under || !std::isfinite(number)) refuse(name, cat(value));
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!info.choices.empty() &&
          std::find(info.choices.begin(), info.choices.end(), value) == info.choices.end())
        refuse(name, printable(value, 40));
    }
  }
  template <class T>
  void section(std::string_view, T& value, std::string_view = {}) {
    value.visit(*this);
  }
  void require(bool holds, std::string_view name, std::string_view rule) {
    if (!holds) refuse(name, std::string(rule));
  }
  [[noreturn]] void refuse(std::string_view name, const std::string& got) const {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = cat(where, ": ", name),
                 .what = "out of range",
                 .got = got,
                 .remedy = kRemedy});
  }
};

// Mixes a number into the field `seed` of every section.
struct SeedMixer {
  uint64_t with;
  template <class T>
  void field(std::string_view name, T& value, const FieldInfo&) {
    if constexpr (std::is_same_v<T, int64_t>)
      if (name == "seed")
        value = static_cast<int64_t>(mix(with, static_cast<uint64_t>(value)) >> 1);
  }
  template <class T>
  void section(std::string_view name, T& value, std::string_view = {}) {
    const auto kind = std::ranges::find(kinds(), name, &Kind::name);
    if (kind == kinds().end() || kind->count) value.visit(*this);
  }
  void require(bool, std::string_view, std::string_view) {}
};

double d(int64_t value) { return static_cast<double>(value); }

// Numbers that a projector of these options holds at least.
double least_numbers(const KvShape& s, const KvShape& t, const ProjectorOptions& o) {
  if (o.kind == "c2c") return least_c2c_numbers(t.layers, o.c2c);
  if (o.kind != "ridge" && o.kind != "mlp") return 0;
  const auto used = [](int64_t asked, int64_t there) {
    return asked > 0 ? std::min(asked, there) : there;
  };
  const RidgeOptions& r = o.ridge;
  const bool matched = r.layout == "head_matched";
  const int64_t layers = used(r.budget, used(r.source_layers, used(r.candidate_layers, s.layers)) +
                                            previous_tokens(r).count());
  const int64_t heads = matched ? std::max<int64_t>(1, s.kv_heads / t.kv_heads) : s.kv_heads;
  const double features = d(layers) * d(heads * s.head_dim) * (r.features == "both" ? 2 : 1);
  const double outputs = 2 * d(t.layers) * d(t.kv_heads * t.head_dim);
  double numbers = (features + 1) * outputs;
  if (o.kind == "mlp") {
    const double networks = 2 * d(t.layers) * (matched ? d(t.kv_heads) : 1),
                 hidden = d(o.mlp.hidden), rank = d(o.mlp.rank);
    numbers += networks * (o.mlp.rank > 0 ? rank * (features + hidden) : features * hidden);
    numbers += d(o.mlp.depth - 1) * networks * hidden * hidden + hidden * outputs;
  }
  return numbers;
}

}  // namespace

double least_c2c_numbers(int64_t target_layers, const C2cOptions& o) {
  const double hidden = d(o.hidden_dim), inner = d(o.intermediate_dim), n = d(o.num_layers);
  const double tower = o.type == "AllInOneProjector"
                           ? hidden + std::max(0.0, n - 2) * hidden * hidden
                           : hidden + 2 * hidden * inner * std::max(1.0, n - 1);
  return 2 * d(target_layers) * tower;
}

std::unique_ptr<Projector> make_projector(const KvShape& source, const KvShape& target,
                                          const ProjectorOptions& options) {
  return kind_of(options).make(source, target, options);
}

ParameterCount count_parameters(const ProjectorOptions& options, const KvShape& source,
                                const KvShape& target) {
  const Kind& kind = kind_of(options);
  return kind.count ? kind.count(source, target, options) : ParameterCount{};
}

void mix_seeds(ProjectorOptions& options, uint64_t with) {
  SeedMixer mixer{with};
  options.visit(mixer);
}

std::unique_ptr<Projector> projector_from_config(const json& config, const std::string& where,
                                                 int64_t numbers_stored) {
  try {
    ProjectorOptions options;
    options.kind = read_member(config, "kind", [](const json& v) {
      const std::string kind = text_of_json(v);
      for (const Kind& known : kinds())
        if (known.name == kind) return kind;
      throw JsonFieldError(printable(kind, 40), "a kind of projector of this version");
    });
    const json& own = config.contains("options") ? config["options"] : json::object();
    if (options.kind == "noise") {
      options.noise.seed = integer(own, "seed", 0, INT64_MAX);
      options.noise.scale = number(own, "scale");
    } else if (options.kind == "ridge") {
      read_ridge(own, options.ridge);
    } else if (options.kind == "mlp") {
      read_member(config, "ridge", [&](const json& v) { read_ridge(v, options.ridge); });
      options.mlp.hidden = integer(own, "hidden", 1, 1 << 16);
      options.mlp.depth = integer(own, "depth", 1, 64);
      options.mlp.rank = integer(own, "rank", 0, 1 << 16);
      options.mlp.dropout = number(own, "dropout");
    } else if (options.kind == "lcf") {
      options.lcf.latent = integer(own, "latent", 1, 1 << 16);
    } else if (options.kind == "dense_latent") {
      options.dense_latent.expansion = integer(own, "expansion", 1, 1024);
    } else if (options.kind == "c2c") {
      read_c2c(own, options.c2c);
    }
    const KvShape source = read_member(config, "source", shape_from),
                  target = read_member(config, "target", shape_from);
    RangeCheck check{where};
    options.visit(check);
    // A description must not take more memory than the weights beside it can fill.
    const double least = least_numbers(source, target, options);
    if (numbers_stored >= 0 && least > d(numbers_stored) * 1.001) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = where,
                   .what = "describes a larger projector than the weights beside it",
                   .got = cat("at least ", least, " numbers"),
                   .expected = cat("at most ", numbers_stored)});
    }
    return make_projector(source, target, options);
  } catch (const json::exception& error) {
    throw corrupt_field(error, where, "not a projector's description", kRemedy);
  }
}

std::vector<std::string> projector_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds()) names.push_back(kind.name);
  return names;
}

}  // namespace kvlingua
