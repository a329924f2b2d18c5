// projector_<n>.json: the class and its arguments, in and out.
#include "checkpoints/c2c_files.h"
#include "kvlingua/io/json_number.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using c2c::dtype_name;
using c2c::dtypes;
using c2c::refuse;
using nlohmann::json;

// One init argument with its checks.
class Argument {
 public:
  Argument(const fs::path& path, std::string key, const json& value)
      : path_(path), key_(std::move(key)), value_(value) {}
  int64_t integer(int64_t low, int64_t high) const {
    if (!is_whole_number(value_, low, high)) bad(cat("an integer from ", low, " to ", high));
    return value_.get<int64_t>();
  }
  const std::string& text(std::initializer_list<std::string_view> choices) const {
    std::string all;
    for (const std::string_view choice : choices) {
      if (value_.is_string() && value_.get_ref<const std::string&>() == choice)
        return value_.get_ref<const std::string&>();
      all += cat(all.empty() ? "" : ", ", choice);
    }
    bad(all);
  }
  double number() const { return value_.is_number() ? value_.get<double>() : (bad("a number"), 0); }
  double share() const {
    if (!(number() >= 0 && number() < 1)) bad("a number from 0, below 1");
    return number();
  }
  double positive() const {
    if (!(number() > 0)) bad("a number above 0");
    return number();
  }
  bool boolean() const {
    return value_.is_boolean() ? value_.get<bool>() : (bad("true or false"), false);
  }
  void must_be(bool wanted) const {
    if (boolean() != wanted) bad(wanted ? "true" : "false");
  }
  at::ScalarType dtype() const {
    const bool typed =
        value_.is_object() && value_.contains("value") && value_["value"].is_string();
    const auto it = dtypes().find(typed ? value_["value"].get<std::string>() : "");
    if (it == dtypes().end()) bad("float32, bfloat16, float16 or float64");
    return it->second;
  }

 private:
  [[noreturn]] void bad(const std::string& expected) const {
    refuse(path_, "init_args." + printable(key_), printable(value_.dump()), expected);
  }
  const fs::path& path_;
  std::string key_;
  const json& value_;
};

// Arguments that the older class alone has; false when it is none of them. What the class offers
// beside the two ways of weighing (c2c_all_in_one.h) is refused, what it ignores is not.
bool read_all_in_one(AllInOneOptions& o, const std::string& key, const Argument& argument) {
  if (key == "weight_hidden_dim") {
    o.weight_hidden_dim = argument.integer(1, 1 << 20);
  } else if (key == "activation") {
    o.activation = argument.text({"gelu", "relu", "silu"});
  } else if (key == "use_layer_norm") {
    o.layer_norm = argument.boolean();
  } else if (key == "use_residual") {
    o.residual = argument.boolean();
  } else if (key == "use_swiglu") {
    o.swiglu = argument.boolean();
  } else if (key == "use_concat") {
    o.concat = argument.boolean();
  } else if (key == "use_gumbel") {
    o.gumbel = argument.boolean();
  } else if (key == "gate_granularity") {
    argument.text({"scalar"});
  } else if (key == "gate_depends_on_input") {
    argument.must_be(false);
  } else if (key == "weight_granularity") {
    argument.text({"scalar", "head_merged"});
  } else if (key == "weight_depends_on_input") {
    o.weight_depends_on_input = argument.boolean();
  } else if (key == "weight_input_features") {
    o.weight_input = argument.text({"target_key", "target_value", "both", "target_projected_key",
                                    "target_projected_value", "target_projected_both"});
  } else if (key == "weight_init_value") {
    o.weight_init = argument.number();
  } else if (key == "scalar_temperature") {
    o.scalar_temperature = argument.positive();
  } else if (key == "preserve_target_weight") {
    o.preserve_target_weight = argument.boolean();
  } else if (key == "add_self") {
    o.add_self = argument.boolean();
  } else {
    return key == "gate_input_features" || key == "gate_init_value" ||
           key == "max_sequence_length" || key == "pos_emb";
  }
  return true;
}

void add_all_in_one(const AllInOneOptions& o, json& init_args) {
  init_args["weight_hidden_dim"] = o.weight_hidden_dim;
  init_args["activation"] = o.activation;
  init_args["use_layer_norm"] = o.layer_norm;
  init_args["use_residual"] = o.residual;
  init_args["use_swiglu"] = o.swiglu;
  init_args["use_concat"] = o.concat;
  init_args["use_gumbel"] = o.gumbel;
  init_args["weight_granularity"] = o.weight_depends_on_input ? "head_merged" : "scalar";
  init_args["weight_depends_on_input"] = o.weight_depends_on_input;
  init_args["weight_input_features"] = o.weight_input;
  init_args["weight_init_value"] = o.weight_init;
  init_args["scalar_temperature"] = o.scalar_temperature;
  init_args["preserve_target_weight"] = o.preserve_target_weight;
  init_args["add_self"] = o.add_self;
}

}  // namespace

namespace c2c {

// The fields of one JSON file in their order, each with what it must be.
Declaration read_declaration(const fs::path& path) {
  const json file = read_json(path);
  const std::string name =
      file.contains("class") && file["class"].is_string() ? file["class"].get<std::string>() : "";
  const bool ablation = name == "AblationProjector", all_in_one = name == "AllInOneProjector";
  if (name != "C2CProjector" && !ablation && !all_in_one) {
    refuse(path, "a projector class that is not supported", name.empty() ? "none" : printable(name),
           "C2CProjector, AblationProjector or AllInOneProjector");
  }
  if (!file.contains("init_args") || !file["init_args"].is_object()) {
    refuse(path, "init_args are missing", {}, {}, ExitCode::kCorrupt);
  }
  Declaration out;
  out.init_args = file["init_args"];
  C2CConfig& c = out.config;
  c.source.kv_heads = c.target.kv_heads = 1;  // the class's defaults
  if (all_in_one) {
    c.all_in_one.emplace();
    c.hidden_dim = 512;
    c.num_layers = 2;
    c.final_temperature = 0.01;
    c.anneal_steps = 1360;
  }
  constexpr int64_t kWide = 1 << 20;
  for (const auto& [key, value] : out.init_args.items()) {
    const Argument argument(path, key, value);
    if (key == "source_dim") {
      c.source.head_dim = argument.integer(1, kWide);
    } else if (key == "target_dim") {
      c.target.head_dim = argument.integer(1, kWide);
    } else if (key == "source_num_heads") {
      c.source.kv_heads = argument.integer(1, kWide);
    } else if (key == "target_num_heads") {
      c.target.kv_heads = argument.integer(1, kWide);
    } else if (all_in_one && read_all_in_one(*c.all_in_one, key, argument)) {
      continue;
    } else if (key == "intermediate_dim" && !all_in_one) {
      c.intermediate_dim = argument.integer(1, kWide);
    } else if (key == "hidden_dim") {
      c.hidden_dim = argument.integer(1, kWide);
    } else if (key == "num_layers") {
      c.num_layers = argument.integer(all_in_one ? 1 : 3, 1024);
    } else if (key == "dropout") {
      c.dropout = argument.share();
    } else if (key == "initial_temperature") {
      c.initial_temperature = argument.positive();
    } else if (key == "final_temperature") {
      c.final_temperature = argument.positive();
    } else if (key == "anneal_steps") {
      c.anneal_steps = argument.integer(1, int64_t{1} << 40);
    } else if (key == "zero_init" && !ablation && !all_in_one) {
      c.zero_init = argument.boolean();
    } else if (key == "ablation_level" && ablation) {
      c.ablation_level = static_cast<int>(argument.integer(0, 4));
    } else if (key == "dtype") {
      out.dtype = argument.dtype();
    } else {
      refuse(path, "an init argument that is not supported", printable(key));
    }
  }
  if (c.source.head_dim == 0 || c.target.head_dim == 0)
    refuse(path, "init_args lack source_dim or target_dim");
  if (all_in_one) {
    const json granularity = out.init_args.value("weight_granularity", json("scalar"));
    const char* expected = c.all_in_one->weight_depends_on_input ? "head_merged" : "scalar";
    if (granularity != expected)
      refuse(path, "init_args.weight_granularity", printable(granularity.dump()), expected);
  }
  return out;
}

json declaration_of(const C2CFuser& fuser) {
  const C2CConfig& c = fuser.config();
  json init_args{{"source_dim", c.source.head_dim},
                 {"target_dim", c.target.head_dim},
                 {"source_num_heads", c.source.kv_heads},
                 {"target_num_heads", c.target.kv_heads},
                 {"hidden_dim", c.hidden_dim},
                 {"num_layers", c.num_layers},
                 {"dropout", c.dropout},
                 {"initial_temperature", c.initial_temperature},
                 {"final_temperature", c.final_temperature},
                 {"anneal_steps", c.anneal_steps},
                 {"dtype",
                  {{"__type__", "torch.dtype"},
                   {"value", dtype_name(fuser.parameters()[0].second.scalar_type())}}}};
  if (c.all_in_one) {
    add_all_in_one(*c.all_in_one, init_args);
    return {{"class", "AllInOneProjector"}, {"init_args", init_args}};
  }
  init_args["intermediate_dim"] = c.intermediate_dim;
  const bool ablation = c.ablation_level > 0;
  if (ablation) {
    init_args["ablation_level"] = c.ablation_level;
  } else {
    init_args["zero_init"] = c.zero_init;
  }
  return {{"class", ablation ? "AblationProjector" : "C2CProjector"}, {"init_args", init_args}};
}

}  // namespace c2c
}  // namespace kvlingua
