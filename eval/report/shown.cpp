#include "eval/report/shown.h"

#include <map>

#include "kvlingua/io/atomic_file.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;

std::vector<ShownAnswer> answers_to(const Probe& probe, const Answers& answers,
                                    const std::vector<std::string>& conditions) {
  std::vector<ShownAnswer> shown;
  for (const auto& name : conditions) {
    const Answer* answer = answers.find(name, item_key(probe));
    if (answer == nullptr) continue;
    ShownAnswer one{.condition = name,
                    .text = answer->text,
                    .exact = answer->score.exact,
                    .knowledge = to_string(answer->score.knowledge),
                    .stall = to_string(answer->score.stall)};
    for (const auto& marker : probe.markers)
      if (occurs(answer->text, marker)) one.markers.push_back(marker);
    shown.push_back(std::move(one));
  }
  return shown;
}

}  // namespace

std::vector<Case> cases_of(const Answers& answers, const std::vector<Probe>& probes,
                           const std::vector<std::string>& conditions) {
  std::vector<Case> cases;
  for (const Probe& probe : probes)
    if (probe.family == "cases")
      cases.push_back({probe.id, answers_to(probe, answers, conditions)});
  return cases;
}

std::vector<Example> examples_of(const Answers& answers, const std::vector<Probe>& probes,
                                 const std::vector<std::string>& conditions) {
  std::vector<Example> examples;
  std::map<std::string, int> shown;
  for (const Probe& probe : probes) {
    const int most = probe.family == "cases" ? 100 : 2;
    if (shown[probe.family + probe.form()]++ >= most) continue;
    examples.push_back({.id = probe.id,
                        .family = probe.family,
                        .form = probe.form(),
                        .context = probe.context,
                        .prompt = probe.prompt,
                        .markers = probe.markers,
                        .parametric = probe.parametric,
                        .answers = answers_to(probe, answers, conditions)});
  }
  return examples;
}

void write_probes(const std::vector<Probe>& probes, const std::filesystem::path& folder) {
  std::string lines;
  for (const Probe& probe : probes) {
    const Json json{{"item", item_key(probe)},
                    {"family", probe.family},
                    {"form", probe.form()},
                    {"group", probe.group},
                    {"scored", markers_digest(probe)},
                    {"context", probe.context},
                    {"prompt", probe.prompt},
                    {"markers", probe.markers},
                    {"parametric", probe.parametric},
                    {"answer", probe.answer}};
    lines += json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  write_file_atomic(folder / "probes.jsonl", lines);
}

}  // namespace kvlingua
