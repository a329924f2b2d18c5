// What a model of the nano language can do, on held-out items (lm_questions.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kvlingua/model/causal_lm.h"
#include "kvlingua/text/chat_template.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

struct LmScore {
  std::string name;  // of the question set
  int64_t n = 0;
  int64_t exact = 0;    // right answers
  int64_t stalled = 0;  // no letter or digit was produced (generation only)

  double rate() const { return n == 0 ? 0 : static_cast<double>(exact) / static_cast<double>(n); }
};

struct LmValidationOptions {
  int64_t items = 500;
  uint64_t seed = 1;
  int64_t batch = 32;
};

// Generates greedily; exact when all markers occur in the answer.
std::vector<LmScore> validate_language_model(const CausalLM& model, const Tokenizer& tokenizer,
                                             ChatFamily family,
                                             const LmValidationOptions& options = {});

// Loads the model and its tokenizer from a directory.
std::vector<LmScore> validate_language_model_at(const std::filesystem::path& directory,
                                                at::Device device,
                                                const LmValidationOptions& options = {});

// The same questions in one forward pass each: exact when the most likely token is the gold one at
// every place of the answer and its end, which is when greedy generation gives exactly the gold
// text.
std::vector<LmScore> score_gold_answers(const CausalLM& model, const Tokenizer& tokenizer,
                                        ChatFamily family, const LmValidationOptions& options = {});

// One line a kind: name, share of exact answers, stalled ones.
std::string describe(const std::vector<LmScore>& scores);
// What is below the bounds that the embedded pair must keep; empty when it holds them: every read
// of a context in identity and counterfact and every known fact exact in at least `share`, and
// nothing stalls.
std::vector<std::string> shortfalls(const std::vector<LmScore>& scores, double share = .95);

}  // namespace kvlingua
