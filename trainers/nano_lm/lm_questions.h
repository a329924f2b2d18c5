// What a model of the nano language is asked: held-out items with their context, known facts, and
// baselines without any context; each with its gold answer. Prompts have the layout of
// chat_template.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/text/chat_template.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

struct LmQuestion {
  std::string context;  // empty: none
  std::string prompt;   // the question, or the beginning of the answer
  bool completion = false;
  std::vector<std::string> markers;  // all must occur in an exact answer
  std::string answer;                // gold; in completion form the rest, with its leading space

  std::vector<int64_t> prompt_ids(const Tokenizer& tokenizer, const ChatFrame& frame) const;
};

struct LmQuestionSet {
  std::string name;  // "identity/question", "facts/completion", "baseline needle/question", ...
  std::vector<LmQuestion> questions;
};

// Each family x form with its context; known facts without context (60) and after a context about
// something else; baselines: the families' prompts without their context, where identity and needle
// are not known and counterfact is answered with what is true.
std::vector<LmQuestionSet> lm_question_sets(int64_t items, uint64_t seed);

}  // namespace kvlingua
