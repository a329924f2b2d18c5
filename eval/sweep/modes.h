// Cognitive modes: does the cache of one kind of text look different from another's, and does the
// difference outlive its length?
//
// A model reads and continues every prompt of every category (geometry/measure.h); three features
// (total key norm, the same by input token, mean effective rank of the keys) are compared in nine
// pairs of categories: 27 comparisons, Holm over all of them. n counts distinct prompts: a greedy
// model repeats itself, so runs of one prompt are one observation. Every effect stands twice, raw
// and with the cache's length taken out (statistics/comparison.h), beside the effect that length
// alone has; the verdict is the second one's, three-valued, from its interval.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/geometry/measure.h"
#include "eval/sweep/prompts.h"
#include "eval/sweep/scales.h"
#include "kvlingua/config/sweep_options.h"

namespace kvlingua {

struct MeasuredCategory {
  std::string name;
  std::vector<Measurement> prompts;  // distinct prompts, failed ones too
  int64_t repeated = 0;              // prompts of the file that stood there before
};

struct MeasuredScale {
  Scale scale;
  std::string error;  // why nothing could be measured; empty: something was
  int64_t num_layers = 0, num_kv_heads = 0, hidden_size = 0, vocab_size = 0, parameters = 0;
  std::vector<MeasuredCategory> categories;
  double seconds = 0;
  int64_t positions = 0, resumed = 0;
  bool repeats_equal = true;  // with more runs than one: whether they gave the same bits
  int64_t runs = 1;
};

// The nine pairs, in the order of the users' reports.
struct ModePair {
  const char* first;
  const char* second;
  const char* key;
  const char* label;
};
const std::vector<ModePair>& mode_pairs();

// `encode` gives a prompt's tokens; what it throws is the prompt's failure. Equal token sequences
// inside a category are one prompt.
struct CategoryRequests {
  std::vector<MeasureRequest> requests;
  std::vector<int64_t> repeated;                       // by category
  std::vector<std::pair<size_t, Measurement>> unread;  // category and its failure
};
CategoryRequests make_requests(
    const std::vector<PromptCategory>& categories,
    const std::function<std::vector<int64_t>(const std::string&)>& encode);

// Measures every category of one model.
MeasuredScale measure_scale(const CausalLM& model, const Scale& scale,
                            const std::vector<PromptCategory>& categories,
                            const std::function<std::vector<int64_t>(const std::string&)>& encode,
                            const MeasureOptions& options, int64_t runs);

// {battery_results, analysis, ranking, ...} of one scale; {error} where it failed.
nlohmann::ordered_json analyse_scale(const MeasuredScale& measured, const SweepOptions& options);

// Over two scales and more: rank correlations of categories, trends of effects.
nlohmann::ordered_json analyse_scales(const std::vector<MeasuredScale>& measured,
                                      const nlohmann::ordered_json& scales,
                                      const SweepOptions& options);

// Throws Error (kInput) naming `file` when that is not the results of a sweep.
void check_older_sweep(const nlohmann::json& old, const std::string& file);

// Which findings of an older results file (the users' or ours) the new one upholds.
nlohmann::ordered_json compare_with(const nlohmann::ordered_json& now, const nlohmann::json& old,
                                    const SweepOptions& options);

// Whether every scale has all its prompts.
bool complete(const std::vector<MeasuredScale>& measured);

}  // namespace kvlingua
