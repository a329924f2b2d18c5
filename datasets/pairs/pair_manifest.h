// The manifest of a pair set: what it holds, which shards are published, and each shard's sha256.
//
// Written after a shard stands under its final name, so whatever it lists exists whole. Several
// ranks write one set: each keeps its own manifest.rank-R.json, readers take the union, and whoever
// finds the set complete joins them into manifest.json. Every file carries a hash of itself: a
// flipped byte anywhere is noticed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>

#include "datasets/pairs/pair_schema.h"

namespace kvlingua {

struct PairManifest {
  PairSetInfo info;
  int64_t planned_samples = 0;
  int64_t planned_shards = 0;
  int64_t skipped_documents = 0;         // malformed records left out (--skip-bad)
  std::map<int64_t, ShardEntry> shards;  // by index

  bool complete() const { return static_cast<int64_t>(shards.size()) == planned_shards; }
  int64_t samples() const;
  int64_t bytes() const;
  // Of what the set holds: its identity and every shard's contents.
  std::string sha256() const;
};

// The union of manifest.json and the ranks' manifests. None when the folder holds no manifest.
// Throws Error: kCorrupt naming the file for any damage, kInput when two ranks' manifests are of
// different recipes.
std::optional<PairManifest> load_pair_manifest(const std::filesystem::path& directory);
// Writes one file atomically and durably. `file`: kManifestFile or rank_manifest_name(r).
void save_pair_manifest(const std::filesystem::path& directory, const std::string& file,
                        const PairManifest& manifest);
std::string rank_manifest_name(int64_t rank);
// Whether generate writes a file of this name into a pair set: other files there are the user's.
bool is_pair_set_file(const std::string& name);
// Removes the ranks' manifests once manifest.json holds everything.
void remove_rank_manifests(const std::filesystem::path& directory);

}  // namespace kvlingua
