// Shown: what was asked and answered, beside the numbers: phase 2a's cases, a few examples, and
// probes.jsonl.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "eval/answers/answer.h"
#include "eval/report/report.h"

namespace kvlingua {

// The answers of these conditions to every case.
std::vector<Case> cases_of(const Answers& answers, const std::vector<Probe>& probes,
                           const std::vector<std::string>& conditions);
// The same for the first two items of each family and form, and all cases, with what was asked.
std::vector<Example> examples_of(const Answers& answers, const std::vector<Probe>& probes,
                                 const std::vector<std::string>& conditions);

// What was asked, one line an item, into probes.jsonl: with generations.jsonl everything that the
// numbers stand on, so that others can score and judge again (scripts/rescore.py).
void write_probes(const std::vector<Probe>& probes, const std::filesystem::path& folder);

}  // namespace kvlingua
