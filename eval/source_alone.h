// source_alone: what the source itself answers when it reads context and question: the ceiling of
// what its cache can carry. No condition of the target, so it is answered apart and kept in
// source_alone.jsonl.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "eval/answer.h"
#include "eval/item.h"

namespace kvlingua {

struct SourceAloneOptions {
  std::filesystem::path file;  // source_alone.jsonl; empty: nothing is kept
  std::string fingerprint;
  bool resume = true;
  int64_t batch_size = 32, max_new_tokens = 32;
};

// Adds answers under "source_alone" for every item of `blocks`.
void answer_by_source(const std::vector<std::vector<Item>>& blocks, const Reader& source,
                      const SourceAloneOptions& options, Answers& answers);

std::string source_alone_definition();

}  // namespace kvlingua
