// Multiple-choice benchmarks from local files, in their published fields (JSONL or CSV):
//
//   mmlu_redux   question, choices, answer (0-3), error_type, correct_answer
//                (edinburgh-dawg/mmlu-redux-2.0)
//   openbookqa   question_stem | question.stem, choices {text, label}, answerKey
//   arc_c        question, choices {text, label}, answerKey (A-E or 1-5)
//   ceval        question, A, B, C, D, answer
//   hellaswag    ctx, endings, label (0-3)
//
// The question with its options is the context that is translated. Gold: `correct` scores only
// items whose published label is right (mmlu_redux: ok, and wrong_groundtruth with its correction)
// and reads numbered keys; `c2c` does as Cache-to-Cache's evaluator does: flagged items but
// no_correct_answer and expert stay in, keys outside A-D are skipped, and an answer is extracted by
// its cascade.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "eval/evaluation.h"
#include "eval/report/report.h"
#include "kvlingua/config/eval_options.h"

namespace kvlingua {

struct Choice {
  std::string id, subject, question;
  std::vector<std::string> options;
  size_t gold = 0;
};
struct ChoiceSet {
  std::vector<Choice> items;
  int64_t skipped = 0;  // unusable under the gold handling asked for
};

// Throws Error (kInput) naming file and line for a record that is not of the kind.
ChoiceSet read_choices(const BenchmarkOptions& options);
ChoiceSet parse_choices(std::string_view text, bool csv, const BenchmarkOptions& options,
                        const std::string& where);

// Which option a generated text chooses, or -1. `c2c`: the peer's cascade, A-D only; else the first
// lone capital letter of an option after "answer", or at the beginning, or the only one.
int extract_choice(std::string_view text, size_t options, bool c2c);

// baseline, full_text and every projector on its items.
BenchmarkNumbers run_benchmark(const BenchmarkOptions& options, const EvaluationInput& input);

// Rows of RFC 4180 CSV: quotes, doubled quotes, line breaks in quotes. Throws Error (kInput) for an
// unclosed quote.
std::vector<std::vector<std::string>> parse_csv(std::string_view text, const std::string& where);

}  // namespace kvlingua
