#include "eval/answers/recital.h"

#include <set>

#include "eval/answers/scoring.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

using Words = std::set<std::string>;

Words said_in(std::string_view text) {
  const std::vector<std::string> words = words_of(normalise(text));
  return {words.begin(), words.end()};
}

void leave_out(Words& words, std::string_view text) {
  for (const std::string& word : said_in(text)) words.erase(word);
}

}  // namespace

bool recites(const Probe& probe, std::string_view text, std::string_view reference) {
  Words unasked = said_in(probe.context);
  leave_out(unasked, probe.prompt);
  leave_out(unasked, reference);
  for (const std::string& marker : probe.markers) leave_out(unasked, marker);
  const auto all = static_cast<double>(unasked.size());
  const Words said = said_in(text);
  const auto repeated =
      std::erase_if(unasked, [&](const std::string& word) { return said.contains(word); });
  return repeated >= kRecitedWords && static_cast<double>(repeated) >= kRecitedShare * all;
}

std::optional<Finding> find_recitals(const Answers& answers, const std::vector<Probe>& probes,
                                     const std::string& condition) {
  int64_t right = 0, recited = 0;
  for (const Probe& probe : probes) {
    const std::string item = item_key(probe);
    const Answer* answer = answers.find(condition, item);
    const Answer* reference = answers.find("full_text", item);
    if (answer == nullptr || reference == nullptr || !answer->score.exact) continue;
    ++right;
    recited += recites(probe, answer->text, reference->text);
  }
  if (static_cast<double>(recited) <= kRecitalBound * static_cast<double>(right))
    return std::nullopt;
  return Finding{"answers_recite",
                 cat(recited, " of ", right, " right answers of ", condition,
                     " say the context over again: being right shows no understanding there"),
                 true};
}

}  // namespace kvlingua
