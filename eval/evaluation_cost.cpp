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

StagePlan plan(const PlanInputs& in) {
  const EvalOptions& eval = in.recipe.eval;
  const double weights = resident_weights(in, false) + in.projector_parameters() * 4;
  const double length = in.length() + 24 + d(eval.max_new_tokens);
  const auto memory = [&, weights, length](double items) {
    const double rows =
        kMergedBatches * items;  // of several conditions that decode together (eval/runner.h)
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
  const double answers =
      d(static_cast<int64_t>(eval.families.size() * eval.forms.size() * eval.conditions.size()) *
        eval.items);
  const double answer = (length + 2 * d(eval.max_new_tokens)) * in.target.flops_per_token(length);
  if (answers * answer / in.machine.flops > 4 * kSmallSeconds) {
    if (eval.families.size() > 1) eval.families.resize(1);
    std::erase_if(eval.conditions, [&](const std::string& name) {
      return name != "full_text" && name != "same_cache" && name != "raw" && name != eval.gated;
    });
    if (std::find(eval.conditions.begin(), eval.conditions.end(), "same_cache") ==
        eval.conditions.end())
      eval.conditions.push_back("same_cache");
  }
}

}  // namespace

StageCost evaluate_cost() { return {.plan = plan, .units = units, .cut = cut, .similar = similar}; }

}  // namespace kvlingua
