// Confirmation: one look at fresh items, planned before it is taken.
//
// `evaluate` explores: seeds, settings and rungs are looked at as often as one likes, and the
// report says so. `evaluate --confirm` writes down what it will judge (the eval section with its
// sha256, the number of items from power, a seed that no look of this run has used) before the
// first answer is made, needs several training seeds, and looks once. An interrupted confirmation
// goes on with what it had written down; a finished one is not repeated for the same checkpoints
// beyond eval.confirm.looks, which share the error between them and are planned before the first.
// Checkpoints are the same where one of the judged projectors is: a further training seed, or one
// left out, makes no new look.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "eval/conditions/list.h"
#include "eval/judging/guards.h"
#include "eval/judging/looks.h"
#include "eval/report/report.h"
#include "kvlingua/config/eval_options.h"
#include "kvlingua/config/run_context.h"

namespace kvlingua {

// Folders of further training seeds under a run, in order: seeds/2, seeds/3, ...
std::vector<std::filesystem::path> seed_folders(const std::filesystem::path& run);
// Where the looks at a gated checkpoint are written down: beside it, or in `run`.
std::filesystem::path ledger_of(const std::map<std::string, NamedProjector>& projectors,
                                const std::string& gated, const std::filesystem::path& run);
// Every ledger that looks at these projectors may stand in: that of the gated one first, then those
// of `run` and of the other projectors.
Looks looks_at(const std::map<std::string, NamedProjector>& projectors, const std::string& gated,
               const std::filesystem::path& run);
// sha256 of an eval section as YAML.
std::string frozen_hash(const EvalOptions& options);

// What is to be confirmed.
struct ToConfirm {
  std::vector<std::string> replicas;    // conditions of further training seeds
  std::string checkpoint;               // hash of all of them
  std::vector<std::string> projectors;  // hash of each
  int64_t trained = 1;                  // seeds that were trained, those of the same weights too
};

// Changes `options` to what is confirmed: conditions, replicas, items, seed, confidence. Throws
// Error: kInput (too few training seeds), kUsage (no look left, a seed that was looked at).
Confirmation plan_confirmation(const RunContext& context, const ToConfirm& what, const Looks& looks,
                               EvalOptions& options, std::vector<Finding>& findings);
void finish(const Confirmation& confirmation);

// Writes the look down, with the report's gates and verdicts, and gives the ledger as the report
// prints it.
LooksTaken take_look(Looks& looks, const std::string& checkpoint, const EvalOptions& options,
                     const std::optional<Confirmation>& confirmation, const Report& report);

}  // namespace kvlingua
