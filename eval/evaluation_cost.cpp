#include "eval/evaluation_cost.h"

#include <algorithm>
#include <cmath>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

constexpr double kFidelityItems = 96;  // fidelity.h
constexpr int64_t kCases = 5;          // phase 2a's
constexpr double kMergedBatches = 4;
constexpr int64_t kFewestItems = 4;  // of a family and form in a small run

StagePlan plan(const PlanInputs& in) {
  const EvalOptions& eval = in.recipe.eval;
  const double weights = resident_weights(in, false) + in.projector_parameters() * 4;
  const double length = in.length() + 24 + d(eval.max_new_tokens);
  const auto memory = [&, weights, length](double items) {
    const double rows =
        kMergedBatches *
        items;  // of several conditions that decode together (eval/answers/runner.h)
    const double caches = rows * length *
                          (in.source.kv_bytes(d(in.source.compute_bytes)) +
                           3 * in.target.kv_bytes(d(in.target.compute_bytes)));
    return weights + caches + in.target.activation_bytes(rows * length) +
           2 * rows * d(in.target.vocab) * 4;
  };
  StagePlan plan = affine_plan(in, "evaluate", memory, "eval.batch_size", eval.batch_size);
  plan.weights = resident_weights(in, false);
  const double per_condition =
      d(static_cast<int64_t>(eval.families.size() * eval.forms.size() * eval.seeds.size())) *
      d(eval.items);
  const double conditions = d(static_cast<int64_t>(eval.conditions.size()));
  const double batches = std::ceil(per_condition / d(eval.batch_size));
  const double prefill =
      per_condition * length *
      (in.source.flops_per_token(length) + conditions * in.target.flops_per_token(length)) /
      in.machine.flops;
  // A decoding step reads every weight once, or is bound by arithmetic or by launches.
  const double step = std::max({d(in.target.weight_bytes()) / in.machine.bandwidth,
                                d(eval.batch_size) * 2 * d(in.target.parameters) / in.machine.flops,
                                in.target.operations() * in.machine.launch_seconds});
  plan.seconds = prefill + conditions * batches * d(eval.max_new_tokens) * step;
  plan.disk = 64 << 20;
  return plan;
}

std::vector<std::string> conditions_of(const EvalOptions& eval) {
  std::vector<std::string> names{"baseline", "full_text"};
  for (const std::string& name : eval.conditions) {
    if (name == "raw") names.push_back("raw_text");
    if (name == "raw_shifted") {
      for (size_t i = 1; i < eval.shifts.size(); ++i)
        names.push_back("raw_shifted_" + std::to_string(eval.shifts[i - 1]));
    }
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  for (const PartialOptions& part : eval.partial) names.push_back(part.name);
  return names;
}

PhaseUnits units(const PlanInputs& in) {
  const EvalOptions& eval = in.recipe.eval;
  const auto groups = static_cast<int64_t>(eval.families.size() * eval.forms.size());
  const int64_t items = eval.items * static_cast<int64_t>(eval.seeds.size());
  const double all = d(groups * items + (eval.cases ? kCases : 0));
  PhaseUnits units{{"probes", all},
                   {"fidelity", eval.fidelity ? std::min(kFidelityItems, d(groups * items)) : 0}};
  const std::vector<std::string> conditions = conditions_of(eval);
  for (const std::string& name : conditions) {
    units["give " + name] = units["read " + name] = units["decode " + name] = all;
  }
  if (std::ranges::count(eval.conditions, "source_alone") > 0) units["source alone"] = all;
  if (eval.dense_twin) units["dense twin"] = all;
  units["judge"] = all * d(static_cast<int64_t>(conditions.size()));
  return units;
}

bool projected(const std::string& condition) {
  const auto made = stage_conditions();
  return condition == "identity" || condition == kRidgeControl ||
         std::find(made.begin(), made.end(), condition) != made.end();
}

// What a small run measured in place of a phase that it left out.
const MeasuredPhase* similar(const MeasuredStage& measured, const std::string& phase) {
  const size_t space = phase.find(' ');
  const std::string kind = phase.substr(0, space);
  const std::string condition = space == std::string::npos ? "" : phase.substr(space + 1);
  const auto find = [&](const std::string& name) {
    const auto found = measured.phases.find(name);
    return found == measured.phases.end() || found->second.units <= 0 ? nullptr : &found->second;
  };
  if (kind == "decode" && projected(condition)) return find("decode full_text");
  if (const MeasuredPhase* own = find(phase)) return own;
  if (condition.empty()) return nullptr;
  if (condition == "wrong_text" || condition == "raw_text") return find(kind + " full_text");
  if (projected(condition)) {
    const auto made = stage_conditions();
    for (auto other = made.rbegin(); other != made.rend(); ++other)  // the last stage first
      if (const MeasuredPhase* found = find(cat(kind, " ", *other))) return found;
  }
  return find(kind + " same_cache");
}

// Of measure_cost(): contexts of four lengths, read by both models and translated, four times each.
double latency_seconds(const PlanInputs& in) {
  constexpr double kTimes = 4, kAsked = 24;
  double flops = 0;
  for (const double length : {in.length(), 64.0, 256.0, 1024.0}) {
    if (length > d(std::min(in.source.max_positions, in.target.max_positions))) continue;
    flops +=
        kTimes * (length * (in.source.flops_per_token(length) + 2 * in.projector_parameters()) +
                  (length + 2 * kAsked) * in.target.flops_per_token(length));
  }
  return flops / in.machine.flops +
         d(in.recipe.eval.message_tokens) * d(in.source.weight_bytes()) / in.machine.bandwidth;
}

void cut(Recipe& small, const PlanInputs& in) {
  // One block of each family and form, since a question is answered longer than a sentence is
  // completed; where that is long, of one family under few conditions.
  EvalOptions& eval = small.eval;
  const double length = in.length();
  eval.items = std::min<int64_t>({eval.items, eval.batch_size, 32});
  eval.seeds.resize(1);
  eval.cases = false;
  eval.benchmarks.clear();
  eval.probe_files.clear();
  eval.counterfact_files.clear();
  const double answer = (length + 2 * d(eval.max_new_tokens)) * in.target.flops_per_token(length);
  const auto seconds = [&] {
    const size_t blocks = eval.families.size() * eval.forms.size() * conditions_of(eval).size();
    return d(static_cast<int64_t>(blocks) * eval.items) * answer / in.machine.flops;
  };
  if (seconds() > 4 * kSmallSeconds) {
    if (eval.families.size() > 1) eval.families.resize(1);
    std::erase_if(eval.conditions, [&](const std::string& name) {
      return name != "full_text" && name != "same_cache" && name != "raw" && name != eval.gated;
    });
    if (std::find(eval.conditions.begin(), eval.conditions.end(), "same_cache") ==
        eval.conditions.end())
      eval.conditions.push_back("same_cache");
    const double fit = d(eval.items) * 4 * kSmallSeconds / seconds();
    eval.items = std::clamp<int64_t>(static_cast<int64_t>(fit), std::min(kFewestItems, eval.items),
                                     eval.items);
  }
  eval.batch_size = std::min(eval.batch_size, eval.items);
  eval.latency = eval.latency && latency_seconds(in) <= 2 * kSmallSeconds;
}

// Seconds of one token of one answer, of so many that decode together: a step reads every weight.
double decode_seconds(const PlanInputs& in, double rows) {
  const double step = d(in.target.weight_bytes()) / in.machine.bandwidth +
                      rows * 2 * d(in.target.parameters) / in.machine.flops;
  return std::max(step, in.target.operations() * in.machine.launch_seconds) / rows;
}

// Rows of a condition that decode at once (eval/answers/runner.h).
double rows_of(const PlanInputs& in, bool alone) {
  const EvalOptions& eval = in.recipe.eval;
  const double block = d(std::min(eval.batch_size, eval.items));
  if (alone) return block;
  const auto merged = static_cast<int64_t>(conditions_of(eval).size()) - 2;
  return std::min(kMergedBatches * d(eval.batch_size), block * d(std::max<int64_t>(1, merged)));
}

// Fewer answers decode together in a small run, and a grid's cell may turn the pair round.
double correct(MeasuredStage& measured, const PlanInputs& whole, const PlanInputs& small) {
  const double reading =
      whole.target.flops_per_token(whole.length()) / small.target.flops_per_token(whole.length());
  for (auto& [phase, took] : measured.phases) {
    if (phase.starts_with("read ")) took.seconds *= reading;
    if (!phase.starts_with("decode ")) continue;
    const bool alone = phase == "decode full_text" || phase == "decode same_cache";
    took.seconds *=
        decode_seconds(whole, rows_of(whole, alone)) / decode_seconds(small, rows_of(small, alone));
  }
  const bool left_out = whole.recipe.eval.latency && !small.recipe.eval.latency;
  return left_out ? latency_seconds(whole) : 0;
}

}  // namespace

double steps_slower(const MeasuredStage& measured, const PlanInputs& small) {
  const auto written = measured.phases.find("decode full_text");
  if (written == measured.phases.end() || written->second.units <= 0) return 1;
  const double computed =
      decode_seconds(small, rows_of(small, true)) * d(small.recipe.eval.max_new_tokens);
  return std::max(1.0, written->second.seconds / written->second.units / computed);
}

StageCost evaluate_cost() {
  return {.plan = plan, .units = units, .cut = cut, .correct = correct, .similar = similar};
}

}  // namespace kvlingua
