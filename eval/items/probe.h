// Probe: one thing the source reads, one thing the target is asked, and what an answer must
// contain.
//
// Probes come from the randomised families (datasets/corpus/families.h), from YAML files like
// eval/probes/phase2a.yaml, and from CounterFact JSON (Meng et al. 2022). A file is refused, with
// its name and place, when a probe could not measure anything: no markers, an answer that already
// stands in the question, an id given twice.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/corpus/families.h"

namespace kvlingua {

struct Probe {
  std::string id;
  std::string family;  // identity, counterfact, needle; the file's stem for own probes; "cases" for
                       // phase 2a
  bool completion = false;  // the prompt is the beginning of the assistant's answer, not a question
  std::string context;      // the span: what the source reads and what is translated
  std::string prompt;
  std::vector<std::string> markers;  // all of them: exact
  std::vector<std::string>
      parametric;      // any of them: answered by heart; empty when nothing is known by heart
  std::string answer;  // gold continuation, for likelihoods; empty: none
  std::string group;   // items about the same thing; statistics keep them together
  const char* form() const { return completion ? "completion" : "question"; }
};

Probe to_probe(const FamilyItem& item);

// Where a built-in probe file lies: under the project's eval/probes.
std::filesystem::path builtin_probes(std::string_view name);  // "phase2a"

// A file's `probes:` list; keys id, context, prompt, form (question, completion), markers,
// parametric, answer, group. `family` is given to all of them. Throws Error: kInput with file and
// line.
std::vector<Probe> read_probes(const std::filesystem::path& file, const std::string& family);
std::vector<Probe> parse_probes(std::string_view yaml, const std::string& where,
                                const std::string& family);

// CounterFact's JSON list: requested_rewrite {prompt, subject, target_new.str, target_true.str}.
// The context is the rewritten statement with target_new, the prompt the same statement without its
// end: completion form. At most `limit` when above 0.
std::vector<Probe> read_counterfact(const std::filesystem::path& file, int64_t limit = 0);
std::vector<Probe> parse_counterfact(std::string_view json, const std::string& where,
                                     int64_t limit = 0);

// Throws Error (kInput) naming the first probe that cannot measure: no markers, empty context or
// prompt, a marker or a parametric answer that stands in the prompt, a marker the parametric
// answers contain, an id that occurs twice.
void check_probes(const std::vector<Probe>& probes, const std::string& where);

}  // namespace kvlingua
