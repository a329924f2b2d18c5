#include "checkpoints/c2c_import.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoints/c2c_files.h"
#include "kvlingua/io/atomic_file.h"

namespace kvlingua {
namespace c2c {

void refuse(const std::filesystem::path& where, const std::string& what, const std::string& got,
            const std::string& expected, ExitCode code) {
  throw Error(
      {.code = code, .where = where.string(), .what = what, .got = got, .expected = expected});
}

const std::map<std::string, at::ScalarType>& dtypes() {
  static const std::map<std::string, at::ScalarType> table{{"float32", at::kFloat},
                                                           {"bfloat16", at::kBFloat16},
                                                           {"float16", at::kHalf},
                                                           {"float64", at::kDouble}};
  return table;
}

std::string dtype_name(at::ScalarType dtype) {
  for (const auto& [name, type] : dtypes()) {
    if (type == dtype) return name;
  }
  throw Error({.where = "Cache-to-Cache checkpoint",
               .what = "dtype cannot be written",
               .got = at::toString(dtype)});
}

at::Tensor to_tensor(const PtTensor& t, const std::filesystem::path& where,
                     const std::string& name) {
  const auto type = dtypes().find(t.dtype);
  if (type == dtypes().end()) {
    refuse(where, "tensor " + printable(name) + " has an unusable dtype", t.dtype,
           "a floating-point type");
  }
  const std::vector<std::byte> bytes = t.contiguous_bytes();
  at::Tensor out = at::empty(t.shape, at::TensorOptions().dtype(type->second));
  if (!bytes.empty()) std::memcpy(out.mutable_data_ptr(), bytes.data(), bytes.size());
  return out;
}

}  // namespace c2c

namespace {

namespace fs = std::filesystem;
using c2c::dtype_name;
using c2c::dtypes;
using c2c::refuse;
using nlohmann::json;

json read_json(const fs::path& path) {
  std::ifstream in(path);
  if (!in) refuse(path, "cannot be opened", std::strerror(errno));
  json parsed = json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded() || !parsed.is_object())
    refuse(path, "not a JSON object", {}, {}, ExitCode::kCorrupt);
  return parsed;
}

// projector_12.pt -> 12
std::optional<int64_t> projector_index(const std::string& file) {
  constexpr std::string_view kPrefix = "projector_", kSuffix = ".pt";
  if (file.size() <= kPrefix.size() + kSuffix.size() || !file.starts_with(kPrefix) ||
      !file.ends_with(kSuffix))
    return {};
  const char* begin = file.data() + kPrefix.size();
  const char* end = file.data() + file.size() - kSuffix.size();
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || stop != end || value < 0) return {};
  return value;
}

int64_t count_projectors(const fs::path& directory) {
  std::vector<int64_t> found;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (const auto index = projector_index(entry.path().filename().string()))
      found.push_back(*index);
  }
  std::sort(found.begin(), found.end());
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] != static_cast<int64_t>(i)) {
      refuse(directory, "projector files are not numbered without a gap",
             cat("projector_", found[i], ".pt"), cat("projector_", i, ".pt"));
    }
  }
  if (found.empty())
    refuse(directory, "no projector_<n>.pt here", {}, "a Cache-to-Cache checkpoint folder");
  return static_cast<int64_t>(found.size());
}

struct Declaration {
  C2CConfig config;
  at::ScalarType dtype = at::kFloat;
  json init_args;
};

// One init argument with its checks.
class Argument {
 public:
  Argument(const fs::path& path, std::string key, const json& value)
      : path_(path), key_(std::move(key)), value_(value) {}
  int64_t integer(int64_t low, int64_t high) const {
    if (!value_.is_number_integer() || value_.get<int64_t>() < low ||
        value_.get<int64_t>() > high) {
      bad(cat("an integer from ", low, " to ", high));
    }
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

struct Mapping {
  std::vector<int64_t> source_layer, projector;  // per target layer
};

Mapping read_mapping(const fs::path& path, int64_t projectors) {
  const json file = read_json(path);
  if (file.size() != 1 || !file.begin()->is_object() || file.begin()->size() != 1 ||
      !file.begin()->begin()->is_object()) {
    refuse(path, "the mapping is not of one target from one source", cat(file.size(), " targets"),
           "one of each");
  }
  const json& layers = *file.begin()->begin();
  const auto count = static_cast<int64_t>(layers.size());
  if (count != projectors) {
    refuse(path, "the number of mapped layers differs from that of projector files", cat(count),
           cat(projectors));
  }
  Mapping out;
  out.source_layer.assign(layers.size(), -1);
  out.projector.assign(layers.size(), -1);
  for (const auto& [key, pairs] : layers.items()) {
    int64_t layer = -1;
    std::from_chars(key.data(), key.data() + key.size(), layer);
    const bool shaped = pairs.is_array() && !pairs.empty() && pairs[0].is_array() &&
                        pairs[0].size() == 2 && pairs[0][0].is_number_integer() &&
                        pairs[0][1].is_number_integer();
    if (layer < 0 || layer >= count || !shaped) {
      refuse(path, "layer " + printable(key), printable(pairs.dump()),
             cat("layers 0 to ", count - 1, ", each [[source layer, projector]]"));
    }
    if (pairs.size() > 1) {
      refuse(path,
             "layer " + printable(key) +
                 " names several source layers, of which the reference uses one",
             cat(pairs.size()), "1");
    }
    out.source_layer[static_cast<size_t>(layer)] = pairs[0][0].get<int64_t>();
    out.projector[static_cast<size_t>(layer)] = pairs[0][1].get<int64_t>();
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t source = out.source_layer[static_cast<size_t>(i)];
    if (source < 0 || source > 4096)
      refuse(path, cat("layer ", i, " is mapped to a source layer"), cat(source), "0 to 4096");
    if (std::count(out.projector.begin(), out.projector.end(), i) != 1)
      refuse(path, cat("projector ", i, " is not used exactly once"));
  }
  return out;
}

fs::path files_of(const fs::path& directory) {
  if (!fs::is_directory(directory))
    refuse(directory, "no such folder", {}, "a Cache-to-Cache checkpoint folder");
  const fs::path final_folder = directory / "final";
  return !fs::exists(directory / "projector_config.json") &&
                 fs::exists(final_folder / "projector_config.json")
             ? final_folder
             : directory;
}

void check_shapes(const fs::path& directory, C2CConfig& config, const C2CShapes& expected) {
  if (config.target.layers != expected.target.layers) {
    refuse(directory, "the number of projectors does not match the target model",
           cat(config.target.layers), cat(expected.target.layers, " layers"));
  }
  if (config.source.layers > expected.source.layers) {
    refuse(directory, "the mapping reaches past the source model",
           cat("layer ", config.source.layers - 1), cat(expected.source.layers, " layers"));
  }
  config.source.layers = expected.source.layers;
  if (config.source != expected.source) {
    refuse(directory, "the source model's cache does not fit", expected.source.describe(),
           config.source.describe());
  }
  if (config.target != expected.target) {
    refuse(directory, "the target model's cache does not fit", expected.target.describe(),
           config.target.describe());
  }
}

std::vector<std::pair<std::string, at::Tensor>> read_state(const fs::path& path,
                                                           at::ScalarType dtype) {
  const PtPointer root = read_torch_archive(path);
  std::vector<std::pair<std::string, at::Tensor>> state;
  if (root->kind != PtValue::Kind::kDict) refuse(path, "not a state_dict");
  for (const auto& [key, value] : root->entries) {
    if (key->kind != PtValue::Kind::kText || value->kind != PtValue::Kind::kTensor)
      refuse(path, "not a state_dict of tensors");
    state.emplace_back(key->text, c2c::to_tensor(value->tensor, path, key->text));
    if (state.back().second.scalar_type() != dtype) {
      refuse(path, "tensor " + printable(key->text) + " has the wrong dtype", value->tensor.dtype,
             dtype_name(dtype));
    }
  }
  return state;
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

}  // namespace

C2CFuser read_c2c_directory(const fs::path& given, const std::optional<C2CShapes>& expected,
                            at::Device device) {
  const fs::path directory = files_of(given);
  const int64_t count = count_projectors(directory);
  const Mapping mapping = read_mapping(directory / "projector_config.json", count);
  Declaration declared = read_declaration(directory / "projector_0.json");
  C2CConfig& config = declared.config;
  config.target.layers = count;
  config.source.layers =
      1 + *std::max_element(mapping.source_layer.begin(), mapping.source_layer.end());
  config.source_layer = mapping.source_layer;
  if (expected) check_shapes(directory, config, *expected);
  C2CFuser fuser(config, device, declared.dtype);
  for (int64_t layer = 0; layer < count; ++layer) {
    const int64_t file = mapping.projector[static_cast<size_t>(layer)];
    const fs::path declaration = directory / cat("projector_", file, ".json");
    if (read_declaration(declaration).init_args != declared.init_args)
      refuse(declaration, "differs from projector_0.json");
    const fs::path weights = directory / cat("projector_", file, ".pt");
    try {
      fuser.load_layer_state(layer, read_state(weights, declared.dtype));
    } catch (const Error& error) {
      ErrorParts parts = error.parts();
      if (parts.where.rfind(weights.string(), 0) != 0) parts.where = weights.string();
      throw Error(parts);
    }
  }
  return fuser;
}

void write_c2c_directory(const C2CFuser& fuser, const fs::path& directory) {
  const C2CConfig& c = fuser.config();
  const fs::path temporary = directory.string() + ".partial";
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
  make_directories(temporary);
  const auto write = [&](const std::string& name, const std::string& bytes) {
    write_file_atomic(temporary / name, bytes);
  };
  const std::string declaration = declaration_of(fuser).dump(2);
  json layers;
  for (int64_t layer = 0; layer < c.target.layers; ++layer) {
    std::vector<at::Tensor> keep;
    std::vector<PtNamedTensor> tensors;
    for (const auto& [name, tensor] : fuser.layer_state(layer)) {
      keep.push_back(tensor.to(at::kCPU).contiguous());
      const at::Tensor& t = keep.back();
      const auto size = static_cast<size_t>(t.numel()) * static_cast<size_t>(t.element_size());
      tensors.push_back({name,
                         dtype_name(t.scalar_type()),
                         t.sizes().vec(),
                         {static_cast<const char*>(t.const_data_ptr()), size}});
    }
    write(cat("projector_", layer, ".pt"), write_torch_archive(tensors, cat("projector_", layer)));
    write(cat("projector_", layer, ".json"), declaration);
    layers[std::to_string(layer)] =
        json::array({json::array({c.source_layer[static_cast<size_t>(layer)], layer})});
  }
  write("projector_config.json", json{{"0", {{"1", layers}}}}.dump(2));
  publish_directory(temporary, directory);
}

}  // namespace kvlingua
