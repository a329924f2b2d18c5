// Looks: the ledger of how often which checkpoint was judged on which items.
//
// looks.jsonl lies in the run's folder, beside the checkpoints, and is only ever added to: a
// verdict that was looked for ten times is another verdict than one that was looked for once. The
// same checkpoint, seed, settings and mode again is the same look.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace kvlingua {

struct Look {
  std::string time;        // UTC, when it was first taken
  std::string mode;        // "explore", "confirm"
  std::string checkpoint;  // of the judged projector's tensors (of all seeds): 16 hex digits
  std::vector<std::string> projectors;  // the same of each; empty: written before this was kept
  std::string gated;
  std::vector<int64_t> seeds;  // of the items
  int64_t items = 0;           // of each family and form
  int64_t looks = 0;           // that were planned with it; 0: not known
  std::string frozen;          // sha256 of the eval section
  nlohmann::ordered_json gates, verdicts;
  bool met = false;

  nlohmann::ordered_json to_json() const;
  static Look from_json(const nlohmann::ordered_json& json);
};

// A look that was planned before it was taken (confirmation.h).
struct Confirmation {
  std::filesystem::path folder;  // eval/confirm-<seed>
  int64_t seed = 0, items = 0, training_seeds = 1, look = 1, looks = 1;
  double confidence = 0.95;  // of each look
  std::string frozen;        // sha256 of the frozen eval section
  std::string checkpoint;
  std::vector<std::string> projectors;  // of each training seed
  bool finished = false;
  nlohmann::ordered_json to_json() const;
};

class Looks {
 public:
  // Reads what is there; a missing file is an empty ledger. A damaged line is left alone and
  // counted as a look of nothing.
  explicit Looks(std::filesystem::path file);
  const std::vector<Look>& all() const { return looks_; }
  bool knows_seed(int64_t seed) const;
  // Looks at this checkpoint in this mode (any when empty).
  std::vector<Look> at(const std::string& checkpoint, const std::string& mode = {}) const;
  // Looks that confirm at any of these projectors, whatever others were judged with it.
  std::vector<Look> confirmed(const std::string& checkpoint,
                              const std::vector<std::string>& projectors) const;
  // Takes the looks of another ledger into account; they are not written again.
  void also_read(const std::filesystem::path& file);
  // Adds it unless it is there, durably; says which look at this checkpoint it is, from 1. What
  // explores goes on with a warning where that cannot be written. Throws Error (kDiskFull, kInput)
  // for a look that confirms: without its line there is no verdict.
  int64_t add(Look look);
  const std::filesystem::path& file() const { return file_; }

 private:
  std::filesystem::path file_;
  std::vector<Look> looks_;
};

std::string utc_now();  // "2026-11-28T01:36:15Z"

}  // namespace kvlingua
