// Answers beside the target's conditions: by another reader (the source itself, the target with
// dense weights), kept in a file of their own and read again from there.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "eval/answers/answer.h"
#include "eval/conditions/condition.h"
#include "eval/items/item.h"

namespace kvlingua {

struct BesideOptions {
  std::filesystem::path file;  // empty: nothing is kept
  std::string fingerprint;
  bool resume = true;
  int64_t batch_size = 32, max_new_tokens = 32;
  bool likelihoods = false;  // of the gold answers too
};

struct Beside {
  std::string condition;  // the answers' name
  // Called when an answer is missing; null: there is no reader.
  std::function<const Reader*()> open;
  std::function<Given(const Item&, const Reader&)> reads;
};

// Adds an answer for every item of `blocks`. False: there is no reader, and some are missing.
// Throws Error (kInterrupted) after a signal; what was answered is kept.
bool answer_beside(const std::vector<std::vector<Item>>& blocks, const Beside& beside,
                   const BesideOptions& options, Answers& answers);

}  // namespace kvlingua
