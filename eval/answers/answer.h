// Answer: what the target said to one probe under one condition, with everything that was measured
// on it.
//
// One line of generations.jsonl is one Answer; reports and verdicts are made of Answers and of
// nothing else, so a resumed run and an uninterrupted one cannot differ.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/answers/scoring.h"
#include "eval/items/probe.h"

namespace kvlingua {

struct Answer {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

  std::string condition;
  std::string item;  // family/form/id: the same under every condition
  std::string family, form, group;
  std::string read;    // sha256 of what the target was given: equal for equal inputs
  std::string scored;  // sha256 of what is looked for
  std::vector<int64_t> ids;
  std::string text;
  bool stopped = false;
  double logprob = 0;         // sum over the generated tokens, natural logarithm
  double nll_answer = kNone;  // mean NLL per token of the gold answer; NaN: not measured
  double nll_parametric = kNone;
  int64_t bytes_moved = 0;  // of what was handed to the target beyond its own prompt
  double kl = kNone;        // mean KL(full_text || condition) over the gold answer's tokens, nats
  Score score;

  nlohmann::json to_json() const;
  static Answer from_json(const nlohmann::json& json,
                          const std::string& where);  // throws Error (kCorrupt)
};

std::string item_key(const Probe& probe);
// What Answer::scored says of a probe.
std::string markers_digest(const Probe& probe);

// Answers by condition and item.
class Answers {
 public:
  void add(Answer answer);
  bool has(const std::string& condition, const std::string& item) const;
  const Answer* find(const std::string& condition, const std::string& item) const;
  std::vector<const Answer*> of(const std::string& condition, const std::string& family = {},
                                const std::string& form = {}) const;
  std::vector<std::string> families(const std::string& condition) const;
  bool empty(const std::string& condition) const { return !by_condition_.contains(condition); }
  std::vector<const Answer*> all() const;  // by condition, then item
  std::vector<std::string> conditions() const;
  size_t size() const;

 private:
  // Sorted by item: order of arrival never matters.
  std::map<std::string, std::map<std::string, Answer>> by_condition_;
};

// Scores every answer that one of `probes` asked for from its text again: stored flags are believed
// by nobody. Returns how many had another score stored.
int64_t rescore(Answers& answers, const std::vector<Probe>& probes);

// Leaves out answers whose input, output and markers were all seen before
// (statistics/duplicates.h).
std::vector<const Answer*> distinct_answers(const std::vector<const Answer*>& answers,
                                            bool with_markers = true);

}  // namespace kvlingua
