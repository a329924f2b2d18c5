// Report: everything that one evaluation says, as a type.
//
// Filled by the parts of eval/ that measure and judge; report.json is its to_json(), report.md and
// report.html are its other faces (faces.h). Nothing is computed from the JSON. A number that is
// not known is NaN here and null there. Where conditions or families are listed, they stand in the
// order they were asked in. Knows no torch.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/criteria/criterion.h"
#include "eval/judging/guards.h"
#include "eval/judging/looks.h"

namespace kvlingua {

inline constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// ---- the table of conditions (summary.h) ----

// A share of `count` successes with its interval, all in [0, 1].
struct Rate {
  double rate = kUnknown, low = 0, high = 1;
  int64_t count = 0;
  std::optional<double> design_effect;  // none: independent trials, or none at all
  nlohmann::ordered_json to_json() const;
};
struct MeanInterval {
  double mean = kUnknown, low = kUnknown, high = kUnknown;
  nlohmann::ordered_json to_json() const;  // null when the mean is not known
};
// Paired: exact answers under one condition minus the same under another, on the same items.
struct Difference {
  double difference = 0, low = 0, high = 0;
  int64_t n = 0, groups = 0;
  double design_effect = 1;
  double p = 1, p_holm = 1;
  nlohmann::ordered_json to_json() const;
};
struct FamilyDifference {
  std::string family;
  Difference difference;
};

// Answers of one condition to one family, or to one form of it.
struct Cell {
  int64_t n = 0, distinct = 0, groups = 0;
  Rate success;
  double partial = 0;  // mean share of markers found
  Rate stalled;
  std::vector<std::pair<std::string, int64_t>> stalls;  // by kind; kinds that occur
  int64_t known = 0;                                    // items the next four speak of
  Rate injected, parametric, both, other;
  double memorisation_ratio = kUnknown;
  MeanInterval nll, nll_parametric, kl;  // nats a token of the gold answer
  int64_t tokens_generated = 0;
  nlohmann::ordered_json to_json() const;
};
struct FamilyNumbers {
  std::string family;
  Cell cell;
  std::vector<std::pair<std::string, Cell>> forms;  // "question", "completion"
  std::optional<Difference> vs_baseline, vs_full_text;
  nlohmann::ordered_json to_json() const;
};
struct ConditionNumbers {
  std::string name;
  std::vector<FamilyNumbers> families;
  std::string definition;
  std::optional<int64_t> bytes_moved;  // mean over answers
  std::optional<double> seconds;
  const FamilyNumbers* find(const std::string& family) const;  // null: not there
  nlohmann::ordered_json to_json() const;
};

// ---- verdicts (judgement.h) ----

// What the gate asks of this many items, and how many it would take.
struct Power {
  int64_t n = 0;
  double design_effect = 1, gate = 0, margin = 0;
  double at_margin = 0, at_one = 0;  // chance to pass when the truth is gate + margin, or 1
  double power = 0;
  std::optional<int64_t> needed_n;  // for that power; none: more than 20000
  nlohmann::ordered_json to_json() const;
};
struct NamedPower {
  std::string criterion;
  Power power;
};
// How anybody can judge again.
struct Judging {
  std::string gated;
  std::vector<std::string> replicas;
  bool fuses = false;
  std::vector<std::string> controls;
  double confidence = 0.95;
  int64_t resamples = 0;
  uint64_t seed = 0;
  nlohmann::ordered_json to_json() const;
};

// ---- the ladder (ladder.h) ----

struct LadderStep {
  std::string lower, upper;
  double difference = 0, low = 0, high = 0;
  int64_t n = 0, groups = 0, only_upper = 0, only_lower = 0;
  double p = 1, p_holm = 1;
  bool rises = false;  // the whole interval is above 0
  nlohmann::ordered_json to_json() const;
};
struct LadderFamily {
  std::string family;
  std::vector<LadderStep> steps;
};
struct Ladder {
  std::vector<std::string> rungs;  // that were evaluated, lowest first
  std::vector<LadderFamily> families;
  const LadderFamily* find(const std::string& family) const;
  nlohmann::ordered_json to_json() const;
};

// ---- attribution (attribution.h) ----

struct ShareInterval {
  double statistic = 0, low = kUnknown, high = kUnknown;
  int64_t n = 0;
  nlohmann::ordered_json to_json() const;
};
struct AttributedCondition {
  std::string name;
  std::optional<ShareInterval> share;  // of the gap from baseline to full_text
  std::optional<ShareInterval> gain;   // of the gap from the best wrong-content control
};
struct Attributed {
  std::string best_control;  // empty: none was there
  std::vector<AttributedCondition> conditions;
  nlohmann::ordered_json to_json() const;
};
struct AttributedFamily {
  std::string family;
  Attributed exact, nll;
};
struct Attribution {
  int64_t resamples = 0;
  std::vector<AttributedFamily> families;
  nlohmann::ordered_json to_json() const;
};

// ---- fidelity (fidelity.h) ----

struct HeadFidelity {
  double key_r2 = 0, value_r2 = 0, key_cosine = 0, value_cosine = 0, key_error = 0, value_error = 0;
};
struct LayerFidelity : HeadFidelity {
  int64_t layer = 0;
  double attention_output_cosine = 0, hidden_drift = 0;
  double key_effective_rank = 0, value_effective_rank = 0;
  std::vector<HeadFidelity> heads;
  nlohmann::ordered_json to_json() const;
};
struct ConditionFidelity {
  std::string name;
  LayerFidelity mean;  // over layers; errors, ranks and heads are not filled
  std::vector<LayerFidelity> layers;
  nlohmann::ordered_json mean_json() const;
};
struct Fidelity {
  std::string condition;  // whose layers stand for the report: the gated one where it was measured
  int64_t items = 0;
  std::vector<double> source_key_ranks, source_value_ranks;  // by layer
  std::vector<double> own_key_ranks, own_value_ranks;
  std::vector<ConditionFidelity> conditions;
  nlohmann::ordered_json to_json() const;
};

// ---- cost (cost.h) ----

struct CostRow {
  int64_t tokens = 0;  // of the context
  double prefill_ms = 0, translate_ms = 0, question_ms = 0, source_prefill_ms = 0, ttft_ratio = 0;
  int64_t bytes = 0;
  double prefill_flops = 0, translate_flops = 0;
  nlohmann::ordered_json to_json() const;
};
struct MessageCost {
  double ms = 0;
  int64_t bytes = 0, tokens = 0;
};
struct Cost {
  CostRow median;  // at the median length of the items
  MessageCost message;
  std::vector<CostRow> lengths;
  std::string condition;
  nlohmann::ordered_json to_json() const;
};

// ---- what was asked and said ----

struct ShownAnswer {
  std::string condition, text;
  bool exact = false;
  std::vector<std::string> markers;  // that were found
  std::string knowledge, stall;
};
struct Case {
  std::string id;
  std::vector<ShownAnswer> answers;
};
struct Example {
  std::string id, family, form, context, prompt;
  std::vector<std::string> markers, parametric;
  std::vector<ShownAnswer> answers;
  nlohmann::ordered_json to_json() const;
};
struct Retained {
  std::string condition;
  double nll = 0, kl = 0;
};
struct Retention {
  double nll = kUnknown, kl = kUnknown;  // of the gated condition
  std::vector<Retained> conditions;
  nlohmann::ordered_json to_json() const;
};

// ---- the target's own weights (dense_twin.h) ----

// full_text of a quantised target against full_text of its dense twin, on the same items.
struct QuantisationCost {
  std::string weights;  // "nf4 (double)"
  int64_t n = 0, equal = 0;
  Rate equal_rate;     // answers that are token for token the same
  MeanInterval exact;  // exact answers, quantised minus dense
  double nll_quantised = kUnknown, nll_dense = kUnknown;  // nats a token of the gold answers
  MeanInterval nll_difference;
  nlohmann::ordered_json to_json() const;
};

// ---- the run ----

struct PairNames {
  std::string source, target, alignment, source_fingerprint, target_fingerprint, dtype, device;
  nlohmann::ordered_json to_json() const;
};
// What trained a checkpoint, in the checkpoint's own words.
struct TrainedBy {
  std::string condition, checkpoint, stage;
  int64_t step = 0;
  std::string recipe_sha256;
  std::optional<bool> finished;
  std::optional<int64_t> rows_seen;
  // None of these when its recipe cannot be read.
  struct Settings {
    std::string recipe, losses;
    int64_t seed = 0;
    std::string data;
    std::vector<std::string> families;  // distilled on
    bool same_training = true;
  };
  std::optional<Settings> settings;
  nlohmann::ordered_json to_json() const;
};
struct LooksTaken {
  int64_t look = 0;
  std::string checkpoint;
  int64_t of_the_run = 0;
  std::vector<Look> at_this_checkpoint;
  nlohmann::ordered_json to_json() const;
};
struct BenchmarkCondition {
  std::string name;
  Rate accuracy;
  int64_t answered = 0;
};
struct BenchmarkNumbers {
  std::string name, file, gold, method;
  int64_t n = 0, skipped = 0;
  double chance = 0;
  std::vector<BenchmarkCondition> conditions;
  nlohmann::ordered_json to_json() const;
};
struct Comparison {
  std::string a, b;  // checkpoints
  std::vector<FamilyDifference> families;
  nlohmann::ordered_json to_json() const;
};
struct RunNumbers {
  int64_t answers = 0, resumed = 0, generated = 0;
  double seconds = 0;
  int64_t processes = 1, batch_size = 0, max_new_tokens = 0;
  nlohmann::ordered_json meter;  // what StageMeter::to_json() says; null: nothing was metered
  nlohmann::ordered_json to_json() const;
};

struct Report {
  std::optional<PairNames> pair;          // none: an evaluation in memory
  std::optional<std::string> checkpoint;  // of the gated condition

  bool confirmatory = false;
  std::string verdict_line, gated;
  bool judged = false, gate_met = false;
  int64_t limit = 0;  // items of each family of a quick look; 0: it is none
  std::vector<CriterionResult> criteria;
  std::optional<Judging> judging;
  std::vector<Finding> findings;
  std::vector<ControlCheck> controls;
  std::string target_dtype;
  std::vector<ConditionNumbers> conditions;
  std::optional<Ladder> ladder;
  std::vector<Case> cases;
  std::vector<Example> examples;
  Retention retention;
  std::optional<QuantisationCost> quantisation;
  std::optional<Fidelity> fidelity;
  std::optional<Cost> latency;
  Attribution attribution;
  std::vector<NamedPower> power;
  std::vector<int64_t> seeds;
  RunNumbers run;

  std::vector<TrainedBy> trained;
  bool one_model = false;
  std::optional<LooksTaken> looks;
  std::optional<Confirmation> confirmation;
  std::vector<BenchmarkNumbers> benchmarks;
  std::optional<Comparison> comparison;
  std::vector<std::pair<std::string, std::string>> versions;
  std::string recipe_sha256;

  bool quick_look() const { return limit > 0; }
  // The level of every interval: 0.95 for 95 %.
  double confidence() const { return judging ? judging->confidence : 0.95; }
  // Families of all conditions in the order met; "cases" is left out.
  std::vector<std::string> families() const;
  // Null: not there.
  const ConditionNumbers* condition(const std::string& name) const;
  const FamilyNumbers* cell(const std::string& condition, const std::string& family) const;
  const CriterionResult* criterion(const std::string& name) const;
  const Retained* retained(const std::string& condition) const;
  bool found(const std::string& finding) const;

  // report.json.
  nlohmann::ordered_json to_json() const;
};

nlohmann::ordered_json to_json(const CriterionResult& result);

}  // namespace kvlingua
