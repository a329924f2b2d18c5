#include <algorithm>
#include <cmath>

#include "kvlingua/config/plan.h"

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

// Of trainers/train_inputs.cpp: rows that validation and its baselines read at most.
constexpr double kValidationRows = 4096, kTokenMeanRows = 20000, kValidationBytes = 256 << 20;
constexpr double kFidelityItems = 96;  // eval/fidelity.h
constexpr int64_t kCases = 5;          // phase 2a's

struct Rows {
  double train = 0, held_out = 0;
};

Rows rows_of(const Recipe& recipe, const ModelNumbers& source, const ModelNumbers& target,
             const CorpusNumbers& corpus) {
  const double kept = recipe.data.tokens_per_sample > 0
                          ? std::min(d(recipe.data.tokens_per_sample), corpus.tokens_per_sample)
                          : corpus.tokens_per_sample;
  const double all = d(corpus.samples) * kept;
  const double previous = 2.0 * d(recipe.projector.ridge.previous_tokens) * d(source.kv_channels());
  const double bytes = source.kv_bytes(4) + target.kv_bytes(4) + 4 * previous;
  const double held =
      std::min({all * recipe.data.validation, kValidationRows, kValidationBytes / bytes});
  return {all * (1 - recipe.data.validation), held};
}

// Steps, and what happens every so many of them and at the end.
PhaseUnits training(double steps, int64_t validate_every, double validated, int64_t save_every) {
  const auto times = [&](int64_t every) {
    return 1 + (every > 0 ? std::floor((steps - 1) / d(every)) : 0);
  };
  return {{"steps", steps},
          {"validate", validated * times(validate_every)},
          {"save", times(save_every)}};
}

double steps_of(const BatchOptions& batch, double micro_batches_per_epoch) {
  if (batch.steps > 0) return d(batch.steps);
  return std::max(1.0, std::ceil(batch.epochs * std::max(1.0, std::floor(micro_batches_per_epoch)) /
                                 d(batch.accumulation)));
}

PhaseUnits distillation(const Recipe& recipe, const ModelNumbers& source,
                        const ModelNumbers& target, const CorpusNumbers& corpus) {
  const DistillationOptions& o = recipe.train.distillation;
  const PreparedItems prepared = prepared_items(recipe, source, target, corpus);
  const double items = prepared.items, held = d(o.held_out);
  const double steps = steps_of(o.batch, items / d(o.batch.size));
  // Beside what is held out as many that were trained on, 64 at most.
  const double validated = held + std::min(64.0, held);
  PhaseUnits units = training(steps, o.validate_every, validated, recipe.checkpoint.every);
  if (o.keep_best) units["validate"] += validated;
  // Kept when all fit: then each is prepared once, when first drawn or near to it. Else
  // whenever it is drawn.
  const double drawn = steps * d(o.batch.size * o.batch.accumulation);
  if (o.endless()) {
    const double once = prepared.kept() ? held : held * units["validate"] / validated;
    units["prepare"] = drawn + once + std::min(64.0, held) * units["validate"] / validated;
  } else if (prepared.kept()) {
    // A draw prepares the sixteen items around it.
    const double blocks = std::ceil(items / 16);
    units["prepare"] = items * (1 - std::pow(1 - 1 / blocks, drawn + held)) + held;
  } else {
    units["prepare"] = drawn + units["validate"];
  }
  return units;
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

PhaseUnits evaluation(const EvalOptions& eval) {
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

}  // namespace

std::map<std::string, PhaseUnits> planned_units(const Recipe& recipe, const ModelNumbers& source,
                                                const ModelNumbers& target,
                                                const CorpusNumbers& corpus) {
  const Rows rows = rows_of(recipe, source, target, corpus);
  std::map<std::string, PhaseUnits> stages;
  stages["generate"] = {{"plan", d(corpus.samples)},
                        {"pairs", d(corpus.samples) * corpus.tokens_per_sample}};
  bool first = true;
  for (const std::string& name : recipe.train.stages) {
    PhaseUnits units;
    if (name == "ridge")
      units = {{"gather", rows.train},
               {"keep", ridge_work(recipe.projector.ridge, source, target, rows.train).kept},
               {"validate", rows.held_out}};
    if (name == "regression") {
      const RegressionOptions& o = recipe.train.regression;
      units = training(steps_of(o.batch, rows.train / d(o.batch.size)), o.validate_every,
                       rows.held_out, recipe.checkpoint.every);
    }
    if (name == "distillation") units = distillation(recipe, source, target, corpus);
    // The first stage reads what all of them validate on.
    if (first) units["held_out"] = std::min(kTokenMeanRows, rows.train) + rows.held_out;
    first = false;
    stages[name] = units;
  }
  stages["evaluate"] = evaluation(recipe.eval);
  return stages;
}

}  // namespace kvlingua
