// full_text_dense: what a quantised target would have answered with its weights dense, reading the
// same text. The difference from full_text is what quantising them costs by itself, whatever is
// handed over. No condition of the target, so it is answered apart and kept in
// full_text_dense.jsonl.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/answers/beside.h"
#include "eval/report/report.h"

namespace kvlingua {

inline constexpr const char* kFullTextDense = "full_text_dense";

// The target whose weights were quantised when it was loaded, and the way to its dense twin.
struct DenseTwin {
  std::string weights;  // what the target holds: "nf4 (double)"
  // Loads it; what this returns lives as long as it is read from. Null, and `why_not`, where there
  // is no room for it.
  std::function<const Reader*(std::string& why_not)> open;
};

// Adds answers under "full_text_dense" for every item of `blocks` (options.file:
// full_text_dense.jsonl); the twin is opened only when one is missing. Returns why there are none;
// empty: they are there.
std::string answer_by_dense_twin(const std::vector<std::vector<Item>>& blocks,
                                 const DenseTwin& twin, const BesideOptions& options,
                                 Answers& answers);

std::string full_text_dense_definition();

// Over items that both answered; nothing when there are none.
std::optional<QuantisationCost> quantisation_cost(const Answers& answers,
                                                  const std::string& weights, double confidence,
                                                  uint64_t seed);

}  // namespace kvlingua
