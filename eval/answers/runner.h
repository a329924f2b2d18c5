// Runner: every condition over every item, each answer kept as soon as its block is made
// (answer_store.h).
//
// Conditions of a block decode together, since a step of a decoder costs nearly the same for one
// row as for hundreds. Only full_text and same_cache run by themselves: they must be equal bit for
// bit in any precision, so they go through passes of the same rows in the same order. full_text
// reads prefix, span and question in the three steps that an injected cache goes through, in one
// session that nothing is cut out of or pasted into; same_cache is read, cut, and pasted.
//
// With several processes, block b is rank b % ranks's; within a process several threads take blocks
// as they come. What an answer is follows from its block alone, so neither number changes any.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "eval/answers/answer_store.h"
#include "eval/conditions/condition.h"
#include "kvlingua/cache/stage_meter.h"

namespace kvlingua {

struct RunnerOptions {
  // Items that full_text and same_cache read at once: the same number, so that their arithmetic is
  // the same.
  int64_t batch_size = 32;
  // Rows of all other conditions together that decode at once; 0: as many as rows_at_once() finds
  // room for.
  int64_t rows = 0;
  int64_t max_new_tokens = 32;
  // Blocks at once, a thread each (RunContext).
  int64_t workers = 1;
  bool likelihoods = true;  // NLL of gold and parametric answers, KL from full_text
  StoreOptions store;
  StageMeter* meter =
      nullptr;  // told of "give", "read" and "decode" of each condition; may be null
};

struct RunnerResult {
  Answers answers;
  bool joined = true;   // false of a rank but the first: its answers are in its file
  int64_t resumed = 0;  // answers found in the file
  int64_t generated = 0;
  double seconds = 0;
  std::map<std::string, double> seconds_by_condition;  // of what was generated now
  // Of controls: the smallest relative distance seen from the cache they imitate. Zero: the control
  // is none.
  std::map<std::string, double> control_distance;
};

// Rows that may decode together beside the models: by the GPU's free memory, on a CPU four times
// `batch_size`. `tokens`: of a row, all told.
int64_t rows_at_once(const CausalLM& model, int64_t batch_size, int64_t tokens);

// `after_block` (may be empty) sees every block in its order, on the first rank alone, while its
// caches are there; never two at once. The first rank returns the answers of all.
RunnerResult run_conditions(const std::vector<std::vector<Item>>& blocks, const Reader& source,
                            const Reader& target,
                            const std::vector<std::unique_ptr<Condition>>& conditions,
                            const BlockOptions& block_options, const RunnerOptions& options,
                            const std::function<void(Block&)>& after_block = {});

}  // namespace kvlingua
