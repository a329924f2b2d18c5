// kvlingua verify: re-reads a pair set and names whatever is damaged.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace kvlingua {

struct VerifyProblem {
  std::string file;
  int64_t sample = -1;  // its id, where one is to blame
  std::string what;
};

struct VerifyResult {
  std::filesystem::path directory;
  bool complete = false;
  int64_t shards = 0, samples = 0, bytes = 0;
  std::vector<VerifyProblem> problems;
  bool clean() const { return problems.empty(); }
  nlohmann::ordered_json to_json() const;
};

// Whether a folder holds (or held) a pair set: a manifest, or shards.
bool is_pair_set(const std::filesystem::path& directory);

// Every hash, every row count, every number (NaN, infinity), every alignment. A damaged file is a
// problem, not an exception; a damaged manifest ends the check. Shards that no manifest lists are
// leftovers of a killed run, and no problem. Throws Error (kInput) when there is no pair set.
VerifyResult verify_pairs(const std::filesystem::path& directory);

}  // namespace kvlingua
