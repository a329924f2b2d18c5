// Item: a probe in tokens of both models.
//
//   target:  before + span + rest   rest: "\n" + question + after; completion: after + the answer's
//                                   beginning
//   source:  before + source_span   it reads the context after its own prefix, never the question
// The pieces are tokenised apart, so that their borders are token borders under every condition.
#pragma once

#include <cstdint>
#include <vector>

#include "eval/items/probe.h"
#include "eval/items/reader.h"
#include "kvlingua/text/alignment.h"

namespace kvlingua {

struct Item {
  const Probe* probe = nullptr;
  std::vector<int64_t> span;  // the context, target tokens
  std::vector<int64_t> rest;  // what the target reads after it
  // The same where there is no context: no line break before the question.
  std::vector<int64_t> rest_alone;
  std::vector<int64_t> source_span;   // the context, source tokens
  std::vector<int64_t> source_index;  // [span] which source token each target token takes
  std::vector<bool> marked;           // [span] whether a target token holds a character of a marker
  std::vector<int64_t> answer;        // gold continuation, target tokens; may be empty
  std::vector<int64_t> parametric;    // the same with the fact known by heart; may be empty
};

// Throws Error (kInput): the context does not fit either model with `room` tokens to spare (named
// with both counts).
Item make_item(const Probe& probe, const Reader& source, const Reader& target,
               AlignmentKind alignment, int64_t room);

}  // namespace kvlingua
