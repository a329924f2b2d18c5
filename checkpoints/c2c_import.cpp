#include "checkpoints/c2c_import.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoints/c2c_files.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/json_number.h"
#include "kvlingua/projector/factory.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using c2c::Declaration;
using c2c::dtype_name;
using c2c::read_json;
using c2c::refuse;
using nlohmann::json;

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
                        pairs[0].size() == 2 && is_whole_number(pairs[0][0]) &&
                        is_whole_number(pairs[0][1]);
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

// What is declared must fit the files, so that a small folder cannot take all memory.
void refuse_larger_than_files(const fs::path& directory, int64_t count, const C2CConfig& config,
                              at::ScalarType dtype) {
  C2cOptions options;
  options.type = config.all_in_one ? "AllInOneProjector" : "C2CProjector";
  options.hidden_dim = config.hidden_dim;
  options.intermediate_dim = config.intermediate_dim;
  options.num_layers = config.num_layers;
  const double least = least_c2c_numbers(1, options) * static_cast<double>(at::elementSize(dtype));
  for (int64_t i = 0; i < count; ++i) {
    const fs::path file = directory / cat("projector_", i, ".pt");
    std::error_code error;
    const auto bytes = fs::file_size(file, error);
    if (error) refuse(file, "cannot be read", error.message());
    if (static_cast<double>(bytes) < least)
      refuse(file, "smaller than the projector that projector_0.json declares",
             cat(bytes, " bytes"), cat("at least ", least), ExitCode::kCorrupt);
  }
}

std::vector<std::pair<std::string, at::Tensor>> read_state(const fs::path& path,
                                                           at::ScalarType dtype) {
  const PtPointer root = read_torch_archive(path);
  std::vector<std::pair<std::string, at::Tensor>> state;
  if (root->kind != PtValue::Kind::kDict) refuse(path, "not a state_dict");
  std::set<std::string_view> names;
  std::set<const void*> storages;
  for (const auto& [key, value] : root->entries) {
    if (key->kind != PtValue::Kind::kText || value->kind != PtValue::Kind::kTensor)
      refuse(path, "not a state_dict of tensors");
    // Each tensor is copied: names that share one storage would make a small file very large.
    if (!names.insert(key->text).second)
      refuse(path, "tensor " + printable(key->text) + " stands twice", {}, {}, ExitCode::kCorrupt);
    if (!value->tensor.storage->empty() && !storages.insert(value->tensor.storage.get()).second)
      refuse(path, "tensor " + printable(key->text) + " shares its numbers with another", {},
             "a state_dict as Cache-to-Cache saves it", ExitCode::kCorrupt);
    state.emplace_back(key->text, c2c::to_tensor(value->tensor, path, key->text));
    if (state.back().second.scalar_type() != dtype) {
      refuse(path, "tensor " + printable(key->text) + " has the wrong dtype", value->tensor.dtype,
             dtype_name(dtype));
    }
  }
  return state;
}

}  // namespace

C2CFuser read_c2c_directory(const fs::path& given, const std::optional<C2CShapes>& expected,
                            at::Device device) {
  const fs::path directory = files_of(given);
  const int64_t count = count_projectors(directory);
  const Mapping mapping = read_mapping(directory / "projector_config.json", count);
  Declaration declared = c2c::read_declaration(directory / "projector_0.json");
  C2CConfig& config = declared.config;
  config.target.layers = count;
  config.source.layers =
      1 + *std::max_element(mapping.source_layer.begin(), mapping.source_layer.end());
  config.source_layer = mapping.source_layer;
  if (expected) check_shapes(directory, config, *expected);
  refuse_larger_than_files(directory, count, config, declared.dtype);
  C2CFuser fuser(config, device, declared.dtype);
  for (int64_t layer = 0; layer < count; ++layer) {
    const int64_t file = mapping.projector[static_cast<size_t>(layer)];
    const fs::path declaration = directory / cat("projector_", file, ".json");
    if (c2c::read_declaration(declaration).init_args != declared.init_args)
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
  const fs::path temporary = temporary_directory(directory);
  const auto write = [&](const std::string& name, const std::string& bytes) {
    write_file_atomic(temporary / name, bytes);
  };
  const std::string declaration = c2c::declaration_of(fuser).dump(2);
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
