// Runner: every condition over every item, each generation kept as soon as it is made.
//
// Answers go to generations.jsonl one (block, condition) at a time; a run that was stopped finds
// them again and goes on with what is missing. The file names the run it belongs to in its first
// line: another pair, checkpoint or setting starts it anew.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "eval/answer.h"
#include "eval/conditions/condition.h"

namespace kvlingua {

struct RunnerOptions {
  int64_t batch_size = 32;
  int64_t max_new_tokens = 32;
  bool likelihoods = true;     // NLL of gold and parametric answers, KL from full_text
  std::filesystem::path file;  // generations.jsonl; empty: nothing is kept
  std::string fingerprint;     // of everything that determines an answer
  bool resume = true;
};

struct RunnerResult {
  Answers answers;
  int64_t resumed = 0;  // answers found in the file
  int64_t generated = 0;
  double seconds = 0;
  std::map<std::string, double> seconds_by_condition;  // of what was generated now
  std::map<std::string, int64_t> bytes_moved;          // mean an item
  // Of controls: the smallest relative distance seen from the cache they imitate. Zero: the control
  // is none.
  std::map<std::string, double> control_distance;
};

// `blocks` are run one after the other. `after_block` (may be empty) sees each block while its
// caches are there.
RunnerResult run_conditions(const std::vector<std::vector<Item>>& blocks, const Reader& source,
                            const Reader& target,
                            const std::vector<std::unique_ptr<Condition>>& conditions,
                            const BlockOptions& block_options, const RunnerOptions& options,
                            const std::function<void(Block&)>& after_block = {});

}  // namespace kvlingua
