#include "datasets/pairs/pair_manifest.h"

#include <algorithm>
#include <system_error>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/io/file_ops.h"
#include "kvlingua/io/manifest.h"

namespace kvlingua {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::string_view kRankPrefix = "manifest.rank-";

json to_json(const ShardEntry& e) {
  return {{"index", e.index},
          {"samples", e.samples},
          {"train_samples", e.train_samples},
          {"source_tokens", e.source_tokens},
          {"target_tokens", e.target_tokens},
          {"source_rows", e.source_rows},
          {"target_rows", e.target_rows},
          {"alignment_covered", e.alignment_covered},
          {"quantisation", e.quantisation}};
}

ShardEntry shard_from_entry(const ManifestEntry& entry) {
  const json& j = entry.attributes;
  ShardEntry e;
  e.file = entry.path;
  e.bytes = static_cast<int64_t>(entry.bytes);
  e.sha256 = entry.sha256;
  e.index = j.at("index").get<int64_t>();
  e.samples = j.at("samples").get<int64_t>();
  e.train_samples = j.at("train_samples").get<int64_t>();
  e.source_tokens = j.at("source_tokens").get<int64_t>();
  e.target_tokens = j.at("target_tokens").get<int64_t>();
  e.source_rows = j.at("source_rows").get<int64_t>();
  e.target_rows = j.at("target_rows").get<int64_t>();
  e.alignment_covered = j.at("alignment_covered").get<double>();
  e.quantisation = j.at("quantisation");
  return e;
}

PairManifest read_one(const fs::path& path) {
  const Manifest file = Manifest::load(path);
  const std::string where = path.string();
  PairManifest m;
  try {
    const json& a = file.attributes();
    if (a.value("format", "") != kPairFormat) {
      throw Error({.code = ExitCode::kInput,
                   .where = where,
                   .what = "not the manifest of a pair set",
                   .expected = "a folder made by kvlingua generate"});
    }
    m.info = PairSetInfo::from_json(a.at("info"), where);
    m.planned_samples = a.at("planned_samples").get<int64_t>();
    m.planned_shards = a.at("planned_shards").get<int64_t>();
    m.skipped_documents = a.at("skipped_documents").get<int64_t>();
    for (const ManifestEntry& entry : file.entries()) {
      ShardEntry shard = shard_from_entry(entry);
      m.shards.insert_or_assign(shard.index, std::move(shard));
    }
  } catch (const json::exception& e) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = where,
                 .what = "a field is missing or of the wrong type",
                 .got = printable(e.what()),
                 .remedy = "generate the pair set again"});
  }
  return m;
}

std::vector<fs::path> rank_manifests(const fs::path& directory) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kRankPrefix) && name.ends_with(".json")) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

int64_t PairManifest::samples() const {
  int64_t n = 0;
  for (const auto& [index, shard] : shards) n += shard.samples;
  return n;
}

int64_t PairManifest::bytes() const {
  int64_t n = 0;
  for (const auto& [index, shard] : shards) n += shard.bytes;
  return n;
}

std::string rank_manifest_name(int64_t rank) { return cat(kRankPrefix, rank, ".json"); }

std::optional<PairManifest> load_pair_manifest(const fs::path& directory) {
  std::optional<PairManifest> all;
  // The ranks' files before manifest.json: whoever removes them has joined them into it first.
  std::vector<fs::path> paths = rank_manifests(directory);
  paths.push_back(directory / kManifestFile);
  for (const fs::path& path : paths) {
    if (!fs::exists(path)) continue;
    PairManifest one = read_one(path);
    if (!all) {
      all = std::move(one);
      continue;
    }
    if (const auto difference = first_difference(all->info.identity(), one.info.identity())) {
      throw Error({.code = ExitCode::kInput,
                   .where = path.string(),
                   .what = cat("belongs to another pair set: ", difference->field, " differs"),
                   .got = difference->second,
                   .expected = difference->first,
                   .remedy = "remove the folder, or generate into another one"});
    }
    all->shards.merge(one.shards);
  }
  return all;
}

void save_pair_manifest(const fs::path& directory, const std::string& file, const PairManifest& m) {
  Manifest manifest;
  manifest.attributes() = {{"format", kPairFormat},
                           {"info", m.info.to_json()},
                           {"planned_samples", m.planned_samples},
                           {"planned_shards", m.planned_shards},
                           {"skipped_documents", m.skipped_documents}};
  for (const auto& [index, shard] : m.shards) {
    manifest.set({.path = shard.file,
                  .bytes = static_cast<uint64_t>(shard.bytes),
                  .sha256 = shard.sha256,
                  .attributes = to_json(shard)});
  }
  manifest.save(directory / file);
}

void remove_rank_manifests(const fs::path& directory) {
  for (const fs::path& path : rank_manifests(directory))
    file_ops::remove(path);  // another rank may have been faster
}

}  // namespace kvlingua
