#include "eval/judging/guards.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "eval/answers/scoring.h"
#include "eval/statistics/duplicates.h"
#include "eval/statistics/equivalence.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

std::string sameness(const Probe& probe) {
  std::string key =
      cat(probe.form(), "\n", normalise(probe.context), "\n", normalise(probe.prompt));
  for (const auto& marker : probe.markers) key += "\n" + normalise(marker);
  return key;
}

// The longest word: what a text is searched for first.
std::string rarest_word(std::string_view text) {
  const std::vector<std::string> words = words_of(normalise(text));
  return words.empty() ? "" : *std::ranges::max_element(words, {}, &std::string::size);
}

bool is_invented(const Probe& probe) { return probe.parametric.empty() && probe.family != "cases"; }

void compare(const Answers& answers, const char* control, const char* reference,
             std::vector<ControlCheck>& checks) {
  ControlCheck check{control, reference};
  for (const Answer* answer : answers.of(control)) {
    const Answer* other = answers.find(reference, answer->item);
    if (other == nullptr) continue;
    ++check.n;
    check.equal += answer->ids == other->ids && answer->stopped == other->stopped;
    check.equal_scores += answer->score.exact == other->score.exact;
  }
  if (check.n > 0) checks.push_back(check);
}

// Controls that must answer as their reference does.
void find_broken_controls(const Answers& answers, bool half, std::vector<Finding>& findings) {
  for (const ControlCheck& check : check_controls(answers)) {
    if (check.equal == check.n) continue;
    if (half && check.control != "same_cache" &&
        static_cast<double>(check.n - check.equal_scores) <=
            kHalfPrecisionBound * static_cast<double>(check.n))
      continue;
    const std::string name =
        check.control == "raw_rerotated" ? "rerotated_differs" : check.control + "_differs";
    findings.push_back(
        {name,
         cat(check.control, " answers as ", check.reference, " on ", check.equal, " of ", check.n,
             " items, it must on all",
             check.control == "same_cache" ? ": the injection is broken, no verdict is given" : ""),
         check.control == "same_cache"});
  }
}

void find_imitators(const std::map<std::string, double>& distances,
                    std::vector<Finding>& findings) {
  for (const auto& [name, distance] : distances)
    if (!(distance > 0.01))
      findings.push_back(
          {"control_imitates",
           cat(name, " handed over the cache that it must differ from (relative distance ",
               distance, ")"),
           true});
}

// Wrong content that answers better than none.
void find_leaks(const Answers& answers, std::vector<Finding>& findings) {
  for (const char* control : {"noise", "shuffled", "averaged", "wrong_text"})
    for (const char* family : {"identity", "needle", "counterfact"}) {
      std::vector<bool> first, second;
      for (const Answer* answer : answers.of(control, family))
        if (const Answer* bare = answers.find("baseline", answer->item)) {
          first.push_back(answer->score.exact);
          second.push_back(bare->score.exact);
        }
      if (first.empty()) continue;
      const auto difference = stats::paired_difference(stats::PairedCounts::of(first, second));
      if (difference.low > 0.05)
        findings.push_back(
            {"control_above_baseline",
             cat(control, " answers ", family, " items ", difference.estimate * 100,
                 " points more often than the bare target: the items give their answers away"),
             true});
    }
}

// Outputs that are all the same, and items that are.
void find_repetitions(const Answers& answers, std::vector<Finding>& findings) {
  for (const auto& family : answers.families("full_text")) {
    if (family == "cases") continue;
    const auto all = answers.of("full_text", family);
    std::vector<std::string> texts;
    for (const Answer* answer : all) texts.push_back(answer->text);
    if (texts.size() >= 10 &&
        2 * stats::distinct(texts).largest > static_cast<int64_t>(texts.size()))
      findings.push_back({"few_distinct_outputs",
                          cat("most of ", texts.size(), " full_text answers of ", family,
                              " are word for word the same"),
                          false});
    const auto once = distinct_answers(all);
    if (once.size() < all.size())
      findings.push_back({"duplicate_items",
                          cat(all.size() - once.size(), " of ", all.size(), " ", family,
                              " items repeat another: counted once"),
                          false});
  }
}

}  // namespace

std::vector<std::string> duplicate_items(const std::vector<Probe>& probes) {
  std::vector<std::string> again;
  std::set<std::string> seen;
  for (const Probe& probe : probes)
    if (!seen.insert(sameness(probe)).second) again.push_back(probe.id);
  return again;
}

std::vector<Overlap> overlaps(const std::vector<Probe>& probes,
                              const std::function<bool(std::string&)>& next) {
  std::vector<Overlap> found;
  std::vector<bool> hit(probes.size(), false);
  std::vector<std::string> contexts;
  // A rare word of the first marker -> probes.
  std::unordered_map<std::string, std::vector<size_t>> by_word;
  for (size_t i = 0; i < probes.size(); ++i) {
    contexts.push_back(normalise(probes[i].context));
    if (probes[i].family == "cases") continue;  // shown, never judged
    const std::string key = probes[i].markers.empty() ? "" : rarest_word(probes[i].markers.front());
    by_word[key.empty() ? rarest_word(probes[i].context) : key].push_back(i);
  }
  std::string text;
  for (int64_t document = 0; next(text); ++document) {
    const std::string plain = normalise(text);
    const std::vector<std::string> all = words_of(plain);
    for (const auto& word : std::set(all.begin(), all.end())) {
      const auto candidates = by_word.find(word);
      if (candidates == by_word.end()) continue;
      for (size_t i : candidates->second) {
        if (hit[i]) continue;
        const bool context = plain.find(contexts[i]) != std::string::npos;
        // Invented values never meet by chance; listed ones (Rome, blue) do, so for them only the
        // whole context counts.
        const bool markers =
            is_invented(probes[i]) &&
            std::all_of(probes[i].markers.begin(), probes[i].markers.end(),
                        [&](const std::string& marker) { return occurs(plain, marker); });
        if (!context && !markers) continue;
        hit[i] = true;
        found.push_back({i, document, context ? "context" : "markers"});
      }
    }
  }
  return found;
}

std::vector<ControlCheck> check_controls(const Answers& answers) {
  std::vector<ControlCheck> checks;
  compare(answers, "same_cache", "full_text", checks);
  compare(answers, "raw", "raw_text", checks);
  compare(answers, "raw_rerotated", "full_text", checks);
  return checks;
}

std::vector<Finding> check_answers(const Answers& answers,
                                   const std::map<std::string, double>& distances, bool half) {
  std::vector<Finding> findings;
  find_broken_controls(answers, half, findings);
  find_imitators(distances, findings);
  find_leaks(answers, findings);
  find_repetitions(answers, findings);
  return findings;
}

}  // namespace kvlingua
