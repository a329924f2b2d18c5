#include "datasets/pairs/pair_manifest.h"

#include <algorithm>
#include <system_error>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/io/file_ops.h"
#include "kvlingua/io/json_number.h"
#include "kvlingua/io/manifest.h"
#include "kvlingua/io/sha256.h"

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
  const auto count = [&](const char* name) { return read_member(j, name, count_of<json>); };
  e.index = count("index");
  e.samples = count("samples");
  e.train_samples = count("train_samples");
  e.source_tokens = count("source_tokens");
  e.target_tokens = count("target_tokens");
  e.source_rows = count("source_rows");
  e.target_rows = count("target_rows");
  e.alignment_covered =
      read_member(j, "alignment_covered", [](const json& v) { return number_within(v, 0, 1); });
  e.quantisation = j.at("quantisation");
  return e;
}

[[noreturn]] void refuse(const std::string& where, const std::string& what,
                         const std::string& got) {
  throw Error({.code = ExitCode::kCorrupt,
               .where = where,
               .what = what,
               .got = got,
               .remedy = "generate the pair set again"});
}

void check_entry(const ShardEntry& e, const PairManifest& m, const std::string& where) {
  if (e.index < 0 || e.index >= m.planned_shards || m.shards.contains(e.index) ||
      e.file != shard_file_name(e.index))
    refuse(where, "an entry is no shard of this set", cat(printable(e.file), ", shard ", e.index));
  for (const int64_t count : {e.samples, e.train_samples, e.source_tokens, e.target_tokens,
                              e.source_rows, e.target_rows}) {
    if (count < 0 || count > e.bytes)
      refuse(where, cat(e.file, ": a count that the file cannot hold"), cat(count));
  }
  if (e.train_samples > e.samples || e.source_rows > e.source_tokens ||
      e.target_rows > e.target_tokens)
    refuse(where, cat(e.file, ": its counts do not fit each other"),
           cat(e.train_samples, " of ", e.samples, " samples"));
}

// A finished set holds what was planned; an unfinished one no more than that.
void check_counts(const PairManifest& m, const std::string& where) {
  if (m.planned_samples < 0 || m.planned_shards < 0 || m.skipped_documents < 0 ||
      m.samples() > m.planned_samples || (m.complete() && m.samples() != m.planned_samples))
    refuse(where, "does not list the samples that were planned",
           cat(m.samples(), " of ", m.planned_samples));
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
    m.planned_samples = read_member(a, "planned_samples", count_of<json>);
    m.planned_shards = read_member(a, "planned_shards", count_of<json>);
    m.skipped_documents = read_member(a, "skipped_documents", count_of<json>);
    for (const ManifestEntry& entry : file.entries()) {
      ShardEntry shard = shard_from_entry(entry);
      check_entry(shard, m, where);
      m.shards.emplace(shard.index, std::move(shard));
    }
    check_counts(m, where);
  } catch (const json::exception& e) {
    throw corrupt_field(e, where, "a field is missing or of the wrong type",
                        "generate the pair set again");
  }
  return m;
}

// `name` is `prefix`, some digits, `suffix`.
bool is_numbered(std::string_view name, std::string_view prefix, std::string_view suffix) {
  if (!name.starts_with(prefix) || !name.ends_with(suffix) ||
      name.size() <= prefix.size() + suffix.size())
    return false;
  name = name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
  return name.find_first_not_of("0123456789") == std::string_view::npos;
}

std::vector<fs::path> rank_manifests(const fs::path& directory) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (is_numbered(name, kRankPrefix, ".json")) found.push_back(entry.path());
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

std::string PairManifest::sha256() const {
  Sha256 hash;
  hash.update(info.identity().dump());
  for (const auto& [index, shard] : shards) hash.update(cat("|", index, " ", shard.sha256));
  return hash.hex();
}

bool is_pair_set_file(const std::string& name) {
  const std::string temporary = "." + std::string(kManifestFile) + ".tmp-";
  return name == kManifestFile || name == ".stage" || is_numbered(name, kRankPrefix, ".json") ||
         is_numbered(name, "shard-", ".h5") || name.starts_with(temporary) ||
         (name.starts_with(".shard-") && name.find(".h5.tmp-") != std::string::npos);
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
    check_counts(*all, path.string());
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
