// source_alone: what the source itself answers when it reads context and question: the ceiling of
// what its cache can carry. No condition of the target, so it is answered apart and kept in
// source_alone.jsonl.
#pragma once

#include <string>
#include <vector>

#include "eval/answers/beside.h"

namespace kvlingua {

// Adds answers under "source_alone" for every item of `blocks`; options.file: source_alone.jsonl.
void answer_by_source(const std::vector<std::vector<Item>>& blocks, const Reader& source,
                      const BesideOptions& options, Answers& answers);

std::string source_alone_definition();

}  // namespace kvlingua
