// Several files and their index as one (safetensors.h).
#include <map>
#include <set>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/base/nearest.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/safetensors.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

// A shard lies beside its index: a plain file name, nothing that could lead elsewhere.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() <= 255 &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos &&
         !name.starts_with('.') && name.ends_with(".safetensors");
}

std::string list(const std::vector<std::string>& names) {
  constexpr size_t kShown = 8;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i)
    text += (i == 0 ? "" : ", ") + printable(names[i]);
  if (names.size() > kShown) text += cat(" and ", names.size() - kShown, " more");
  return text;
}

[[noreturn]] void refuse_without_weights(const fs::path& directory) {
  std::error_code ignored;
  const bool pickled = fs::exists(directory / "pytorch_model.bin", ignored) ||
                       fs::exists(directory / "pytorch_model.bin.index.json", ignored);
  throw Error({.code = ExitCode::kInput,
               .where = directory.string(),
               .what = "no weights",
               .got = pickled ? "pytorch_model.bin alone"
                              : "neither model.safetensors nor model.safetensors.index.json",
               .expected = "safetensors",
               .remedy = pickled ? "convert the model with transformers' save_pretrained"
                                 : "download the model again"});
}

[[noreturn]] void corrupt(const fs::path& index, std::string what, std::string got,
                          std::string expected) {
  throw Error({.code = ExitCode::kCorrupt,
               .where = index.string(),
               .what = std::move(what),
               .got = std::move(got),
               .expected = std::move(expected),
               .remedy = "download the model again"});
}

// Tensor to shard, both names, every shard checked to be there.
std::map<std::string, std::string> read_index(const fs::path& index) {
  const nlohmann::json document = parse_json(read_text_file(index), index.string());
  if (!document.is_object() || !document.contains("weight_map") ||
      !document["weight_map"].is_object() || document["weight_map"].empty()) {
    corrupt(index, "no weight_map", {}, "an object of tensor name to shard file");
  }
  std::map<std::string, std::string> shard_of;
  std::set<std::string> shards;
  std::vector<std::string> missing;
  std::error_code ignored;
  for (const auto& [tensor, file] : document["weight_map"].items()) {
    if (!file.is_string() || !is_plain_name(file.get_ref<const std::string&>())) {
      corrupt(index, cat("weight_map: ", printable(tensor)), printable(file.dump(-1, ' ', true)),
              "the plain name of a .safetensors file beside the index");
    }
    const auto& name = file.get_ref<const std::string&>();
    shard_of.emplace(tensor, name);
    if (!shards.insert(name).second) continue;
    if (!fs::exists(index.parent_path() / name, ignored)) missing.push_back(name);
  }
  if (missing.empty()) return shard_of;
  throw Error({.code = ExitCode::kInput,
               .where = index.string(),
               .what = cat(missing.size(), " of ", shards.size(), " shards missing"),
               .got = list(missing),
               .remedy = "download the model again"});
}

}  // namespace

ShardedSafetensors ShardedSafetensors::open(const fs::path& directory) {
  ShardedSafetensors out;
  const fs::path single = directory / "model.safetensors";
  const fs::path index = directory / "model.safetensors.index.json";
  std::error_code ignored;
  if (fs::exists(single, ignored)) {
    out.where_ = single.string();
    out.files_.push_back(SafetensorsFile::open(single));
    for (const auto& [name, tensor] : out.files_[0].tensors()) out.file_of_.emplace(name, 0);
    out.name_as_whole_model();
    return out;
  }
  if (!fs::exists(index, ignored)) refuse_without_weights(directory);
  out.where_ = index.string();
  const std::map<std::string, std::string> shard_of = read_index(index);
  std::map<std::string, size_t> number_of;
  for (const auto& [tensor, shard] : shard_of) number_of.emplace(shard, 0);
  for (auto& [shard, number] : number_of) {
    number = out.files_.size();
    out.files_.push_back(SafetensorsFile::open(directory / shard));
  }
  std::vector<std::string> absent;
  for (const auto& [tensor, shard] : shard_of) {
    const size_t number = number_of.at(shard);
    if (out.files_[number].find(tensor) == nullptr) absent.push_back(cat(tensor, " in ", shard));
    out.file_of_.emplace(tensor, number);
  }
  if (!absent.empty())
    corrupt(index, "tensors of the index are not in their shards", list(absent), {});
  out.name_as_whole_model();
  return out;
}

void ShardedSafetensors::name_as_whole_model() {
  if (contains("model.embed_tokens.weight") || !contains("embed_tokens.weight")) return;
  const auto named = [](const std::string& name) {
    return name.starts_with("lm_head.") ? name : "model." + name;
  };
  for (SafetensorsFile& file : files_) {
    SafetensorsFile::Tensors tensors;
    for (auto& [name, view] : file.tensors_) tensors.emplace(named(name), std::move(view));
    file.tensors_ = std::move(tensors);
  }
  std::map<std::string, size_t, std::less<>> file_of;
  for (const auto& [name, file] : file_of_) file_of.emplace(named(name), file);
  file_of_ = std::move(file_of);
}

std::vector<std::string> ShardedSafetensors::names() const {
  std::vector<std::string> names;
  names.reserve(file_of_.size());
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

const SafetensorsFile& ShardedSafetensors::file_of(std::string_view name) const {
  const auto it = file_of_.find(name);
  if (it != file_of_.end()) return files_[it->second];
  const std::string near = nearest_name(
      name, file_of_, [](const auto& entry) { return std::string_view(entry.first); },
      name.size() / 3);
  throw Error(
      {.code = ExitCode::kInput,
       .where = where_,
       .what = cat("no tensor named ", printable(name)),
       .got = near.empty() ? cat(file_of_.size(), " others") : cat("nearest: ", printable(near))});
}

const SafetensorsView* ShardedSafetensors::find(std::string_view name) const {
  return contains(name) ? file_of(name).find(name) : nullptr;
}

const SafetensorsView& ShardedSafetensors::at(std::string_view name) const {
  return file_of(name).at(name);
}

void ShardedSafetensors::done_with(std::string_view name) const {
  const SafetensorsFile& file = file_of(name);
  file.advise(FileAccess::kDontNeed, file.at(name).data);
}

}  // namespace kvlingua
