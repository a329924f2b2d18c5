// Judgement: the criteria of one evaluation, what withholds them, and what they could have shown.
//
// Only a projector is judged, and only beside its controls, by the same criterion: a control whose
// whole interval does not lie below the gate withholds the verdict, and so does a missing one. A
// projector that fuses, whose target reads the text too, is judged on its gain over full_text
// alone. Every family that was asked for is judged or named as not judged.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "eval/answers/answer.h"
#include "eval/conditions/list.h"
#include "eval/judging/guards.h"
#include "eval/report/report.h"
#include "kvlingua/config/eval_options.h"

namespace kvlingua {

// What must have been run beside a judged condition.
const std::vector<std::string>& compulsory_controls(bool fuses);

// Throws Error (kUsage): the gated condition is among those asked for and is no projector.
void check_gate(const EvalOptions& options,
                const std::map<std::string, NamedProjector>& projectors);

struct JudgeInput {
  const EvalOptions& options;
  const std::map<std::string, NamedProjector>& projectors;
  const Answers& answers;
  uint64_t seed = 0;
  std::vector<std::string> replicas;          // the gated condition by other training seeds
  std::vector<std::string> trained_families;  // that the judged checkpoint was distilled on
  bool confirm = false;
};

struct Judgement {
  std::vector<CriterionResult> criteria;
  std::vector<NamedPower> power;
  std::optional<Judging> judging;
  std::string line;  // the verdict in one sentence, with the families it speaks of
  bool judged = false, met = false;
};

// Adds findings on missing controls and on controls that are not below the gate.
Judgement judge(const JudgeInput& input, std::vector<Finding>& findings);

}  // namespace kvlingua
