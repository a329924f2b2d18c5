// One evaluation in memory: readers, projectors and probes in, a report out. evaluate.h is the same
// from a recipe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "eval/answers/answer.h"
#include "eval/answers/dense_twin.h"
#include "eval/conditions/list.h"
#include "eval/items/reader.h"
#include "eval/judging/guards.h"
#include "eval/report/report.h"
#include "kvlingua/cache/stage_meter.h"
#include "kvlingua/config/eval_options.h"
#include "kvlingua/config/world.h"
#include "kvlingua/text/alignment.h"

namespace kvlingua {

struct EvaluationInput {
  const Reader& source;
  const Reader& target;
  AlignmentKind alignment = AlignmentKind::kLastChar;
  EvalOptions options;
  std::map<std::string, NamedProjector> projectors;
  std::vector<Probe> probes;
  uint64_t seed = 1;
  std::filesystem::path folder;  // where generations.jsonl goes; empty: nothing is kept
  bool resume = true;
  World world;              // items are shared out among its ranks
  int64_t workers = 1;      // threads of this process that answer blocks of items (RunnerOptions)
  int64_t limit = 0;        // items of each family and form; 0: all. Marked in the report.
  std::string fingerprint;  // of models, checkpoints and code; settings and probes are added here
  std::vector<Finding> findings;              // made before (items left out)
  std::vector<std::string> replicas;          // conditions: the gated one by other training seeds
  std::vector<std::string> trained_families;  // that the judged checkpoint was distilled on
  bool confirm = false;           // a confirmatory look; else the report says exploratory
  StageMeter* meter = nullptr;    // may be null
  std::optional<DenseTwin> twin;  // of a target whose weights were quantised when it was loaded
  // More conditions than the list gives: for tests that plant a broken one.
  std::vector<std::unique_ptr<Condition>>* extra = nullptr;
};

struct Evaluation {
  Answers answers;
  Report report;              // without pair, versions and recipe: the caller knows them
  bool judged = false;        // the gated condition was there
  bool gate_missing = false;  // it was to be judged and was not there
  bool gate_met = false;      // every criterion passes
  int64_t resumed = 0, generated = 0;
  bool joined = true;  // false of a rank but the first: it has no report
};

Evaluation run_evaluation(const EvaluationInput& input);

// Families, cases and own files as the options ask for them; at most `limit` items of each family
// and form when above 0.
std::vector<Probe> make_probes(const EvalOptions& options, const std::vector<int64_t>& seeds,
                               FamilyStyle style, int64_t limit);

}  // namespace kvlingua
