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

KvShape shape_from(const json& j) {
  return {whole_number(j.at("layers")), whole_number(j.at("kv_heads")),
          whole_number(j.at("head_dim"))};
}

void read_ridge(const json& j, RidgeOptions& o) {
  j.at("source_layers").get_to(o.source_layers);
  j.at("candidate_layers").get_to(o.candidate_layers);
  j.at("layout").get_to(o.layout);
  j.at("features").get_to(o.features);
  o.previous_tokens = j.value("previous_tokens", int64_t{0});  // not in checkpoints before it
  if (o.previous_tokens < 0 || o.previous_tokens > 64) {
    throw Error({.code = ExitCode::kInput,
                 .where = "previous_tokens",
                 .what = "out of range",
                 .got = cat(o.previous_tokens),
                 .expected = "0 to 64"});
  }
  o.previous_layers = j.value("previous_layers", o.previous_layers);
  o.budget = j.value("budget", int64_t{0});
  if (o.budget < 0 || o.previous_layers.empty() || o.previous_layers.size() > 1024) {
    throw Error({.code = ExitCode::kInput,
                 .where = "ridge",
                 .what = "budget or previous_layers out of range",
                 .got = cat(o.budget, " and ", o.previous_layers.size(), " layers"),
                 .expected = "at least 0 and 1 to 1024 layers"});
  }
  o.change_rank = j.value("change_rank", int64_t{0});
  if (o.change_rank < 0 || o.change_rank > (1 << 16)) {
    throw Error({.code = ExitCode::kInput,
                 .where = "change_rank",
                 .what = "out of range",
                 .got = cat(o.change_rank),
                 .expected = "0 to 65536"});
  }
}

int64_t width_from(const json& j, const char* name) {
  const auto width = whole_number(j.at(name));
  if (width < 1 || width > (1 << 16)) {
    throw Error({.code = ExitCode::kInput,
                 .where = name,
                 .what = "out of range",
                 .got = cat(width),
                 .expected = "1 to 65536"});
  }
  return width;
}

// A visitor of option structs: every field from its name.
struct FieldsFromJson {
  const json& from;
  template <class T>
  void field(std::string_view name, T& value, const FieldInfo&) {
    from.at(std::string(name)).get_to(value);
  }
};

void read_c2c(const json& j, C2cOptions& o) {
  j.at("hidden_dim").get_to(o.hidden_dim);
  j.at("intermediate_dim").get_to(o.intermediate_dim);
  j.at("num_layers").get_to(o.num_layers);
  j.at("dropout").get_to(o.dropout);
  j.at("initial_temperature").get_to(o.initial_temperature);
  j.at("final_temperature").get_to(o.final_temperature);
  j.at("anneal_steps").get_to(o.anneal_steps);
  j.at("source_layer").get_to(o.source_layer);
  j.at("ablation").get_to(o.ablation);
  j.at("mode").get_to(o.mode);
  if (!j.contains("all_in_one")) return;
  o.type = "AllInOneProjector";
  FieldsFromJson visitor{j["all_in_one"]};
  o.all_in_one.visit(visitor);
}

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
    throw Error({.code = ExitCode::kInput,
                 .where = where,
                 .what = cat(name, " out of range"),
                 .got = got,
                 .remedy = "the file is damaged, or from another version"});
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
    options.kind = config.at("kind").get<std::string>();
    const json& own = config.contains("options") ? config["options"] : json::object();
    if (options.kind == "noise") {
      own.at("seed").get_to(options.noise.seed);
      own.at("scale").get_to(options.noise.scale);
    } else if (options.kind == "ridge") {
      read_ridge(own, options.ridge);
    } else if (options.kind == "mlp") {
      read_ridge(config.at("ridge"), options.ridge);
      own.at("hidden").get_to(options.mlp.hidden);
      own.at("depth").get_to(options.mlp.depth);
      own.at("rank").get_to(options.mlp.rank);
      own.at("dropout").get_to(options.mlp.dropout);
    } else if (options.kind == "lcf") {
      options.lcf.latent = width_from(own, "latent");
    } else if (options.kind == "dense_latent") {
      options.dense_latent.expansion = width_from(own, "expansion");
    } else if (options.kind == "c2c") {
      read_c2c(own, options.c2c);
    }
    const KvShape source = shape_from(config.at("source")),
                  target = shape_from(config.at("target"));
    for (const KvShape& shape : {source, target}) {
      if (shape.layers < 1 || shape.kv_heads < 1 || shape.head_dim < 1 || shape.layers > 4096 ||
          shape.kv_heads > 4096 || shape.head_dim > 4096) {
        throw Error({.code = ExitCode::kInput,
                     .where = where,
                     .what = "shape out of range",
                     .got = shape.describe(),
                     .expected = "1 to 4096 each"});
      }
    }
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
    throw Error({.code = ExitCode::kInput,
                 .where = where,
                 .what = cat("not a projector's description: ", printable(error.what())),
                 .remedy = "the file is not from this program, or from another version"});
  }
}

std::vector<std::string> projector_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds()) names.push_back(kind.name);
  return names;
}

}  // namespace kvlingua
