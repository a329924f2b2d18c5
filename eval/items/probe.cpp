#include "eval/items/probe.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "eval/answers/scoring.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/json.h"

namespace kvlingua {

namespace {

constexpr size_t kLargestFile = size_t{256} << 20;

std::string read_text(const std::filesystem::path& file) {
  return std::string(without_bom(read_text_file(file, kLargestFile)));
}

[[noreturn]] void refuse(const std::string& where, const std::string& what, const std::string& got,
                         const std::string& expected, const std::string& remedy = {}) {
  throw Error({.code = ExitCode::kInput,
               .where = where,
               .what = what,
               .got = got,
               .expected = expected,
               .remedy = remedy});
}

std::string place(const std::string& where, const YAML::Mark& mark) {
  return mark.is_null() ? where : cat(where, ":", mark.line + 1, ":", mark.column + 1);
}

std::vector<std::string> strings(const YAML::Node& node, const std::string& where,
                                 const std::string& key) {
  std::vector<std::string> values;
  if (node.IsScalar()) return {node.Scalar()};
  if (!node.IsSequence())
    refuse(place(where, node.Mark()), cat(key, " is not a list"), "a map", "a list of words");
  for (const auto& entry : node) {
    if (!entry.IsScalar())
      refuse(place(where, entry.Mark()), cat("an entry of ", key, " is not text"), "a list or map",
             "words");
    values.push_back(entry.Scalar());
  }
  return values;
}

Probe parse_probe(const YAML::Node& node, const std::string& where, const std::string& family) {
  static const std::set<std::string> known = {"id",      "context",    "prompt", "form",
                                              "markers", "parametric", "answer", "group"};
  if (!node.IsMap())
    refuse(place(where, node.Mark()), "a probe is not a map", "something else",
           "id, context, prompt, markers");
  Probe probe;
  probe.family = family;
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string key = entry.first.Scalar();
    const std::string here = place(where, entry.first.Mark());
    if (!known.contains(key))
      refuse(here, "unknown key of a probe", printable(key),
             "id, context, prompt, form, markers, parametric, answer or group");
    if (!seen.insert(key).second) refuse(here, "key given twice", printable(key), "each key once");
    const YAML::Node& value = entry.second;
    if (key == "markers")
      probe.markers = strings(value, where, key);
    else if (key == "parametric")
      probe.parametric = strings(value, where, key);
    else if (!value.IsScalar())
      refuse(place(where, value.Mark()), cat(key, " is not text"), "a list or map", "text");
    else if (key == "id")
      probe.id = value.Scalar();
    else if (key == "context")
      probe.context = value.Scalar();
    else if (key == "prompt")
      probe.prompt = value.Scalar();
    else if (key == "answer")
      probe.answer = value.Scalar();
    else if (key == "group")
      probe.group = value.Scalar();
    else if (value.Scalar() == "completion")
      probe.completion = true;
    else if (value.Scalar() != "question")
      refuse(place(where, value.Mark()), "unknown form", printable(value.Scalar()),
             "question or completion");
  }
  if (probe.id.empty())
    refuse(place(where, node.Mark()), "a probe has no id", "nothing", "a name of its own");
  if (probe.group.empty()) probe.group = probe.id;
  return probe;
}

}  // namespace

Probe to_probe(const FamilyItem& item) {
  return {.id = item.id,
          .family = item.family,
          .completion = item.completion,
          .context = item.context,
          .prompt = item.prompt,
          .markers = item.markers,
          .parametric = item.parametric,
          .answer = item.answer,
          .group = item.group};
}

std::filesystem::path builtin_probes(std::string_view name) {
  return project_root() / "eval" / "probes" / cat(name, ".yaml");
}

void check_probes(const std::vector<Probe>& probes, const std::string& where) {
  std::set<std::string> ids;
  for (const Probe& probe : probes) {
    const std::string here = cat(where, ": probe ", printable(probe.id));
    if (!ids.insert(probe.family + "/" + probe.id).second)
      refuse(here, "id given twice", printable(probe.id), "every probe under its own id");
    if (normalise(probe.context).empty())
      refuse(here, "empty context", "nothing", "what the source reads");
    if (normalise(probe.prompt).empty())
      refuse(here, "empty prompt", "nothing", "what the target is asked");
    if (probe.markers.empty())
      refuse(here, "no markers", "an empty list", "the words that an answer must contain",
             "add markers: [...]");
    for (const auto& marker : probe.markers) {
      if (normalise(marker).empty())
        refuse(here, "empty marker", "nothing", "words that an answer must contain");
      if (occurs(probe.prompt, marker))
        refuse(here, "the answer is already in the question",
               cat("marker '", printable(marker), "' occurs in '", printable(probe.prompt), "'"),
               "a prompt that does not give the answer away",
               "reword the prompt or choose another marker");
      for (const auto& known : probe.parametric)
        if (occurs(known, marker) || occurs(marker, known))
          refuse(here, "injected and parametric answers cannot be told apart",
                 cat("'", printable(marker), "' and '", printable(known), "'"),
                 "answers of which none contains the other");
    }
    for (const auto& known : probe.parametric)
      if (occurs(probe.prompt, known))
        refuse(here, "the answer is already in the question",
               cat("parametric '", printable(known), "' occurs in '", printable(probe.prompt), "'"),
               "a prompt that does not give the answer away", "reword the prompt");
  }
}

std::vector<Probe> parse_probes(std::string_view yaml, const std::string& where,
                                const std::string& family) {
  std::vector<Probe> probes;
  try {
    const YAML::Node root = YAML::Load(std::string(yaml));
    if (!root.IsMap() || !root["probes"] || !root["probes"].IsSequence())
      refuse(where, "not a probe file", "no list called probes", "probes: followed by a list",
             "see eval/probes/phase2a.yaml for the form");
    for (const auto& node : root["probes"]) probes.push_back(parse_probe(node, where, family));
  } catch (const YAML::Exception& error) {
    refuse(place(where, error.mark), "not readable as YAML", printable(error.msg), "YAML");
  }
  if (probes.empty()) refuse(where, "no probes", "an empty list", "one probe at least");
  check_probes(probes, where);
  return probes;
}

std::vector<Probe> read_probes(const std::filesystem::path& file, const std::string& family) {
  return parse_probes(read_text(file), file.string(), family);
}

std::vector<Probe> parse_counterfact(std::string_view json, const std::string& where,
                                     int64_t limit) {
  nlohmann::json root;
  try {
    root = parse_json(json, where);
  } catch (const Error& error) {
    refuse(error.parts().where, "not readable as JSON",
           cat(error.parts().what, error.parts().got.empty() ? "" : ", ", error.parts().got),
           "CounterFact's JSON list");
  }
  if (!root.is_array())
    refuse(where, "not a CounterFact file", "no list", "a JSON list of records");
  std::vector<Probe> probes;
  for (size_t i = 0; i < root.size() && (limit == 0 || static_cast<int64_t>(probes.size()) < limit);
       ++i) {
    const std::string here = cat(where, ": record ", i);
    const auto field = [&](const nlohmann::json& from, const char* key) -> const nlohmann::json& {
      if (!from.is_object() || !from.contains(key))
        refuse(here, "field missing", key,
               "requested_rewrite{prompt, subject, target_new, target_true}");
      return from.at(key);
    };
    const auto text = [&](const nlohmann::json& from, const char* key) {
      const auto& value = field(from, key);
      if (!value.is_string()) refuse(here, cat(key, " is not text"), value.type_name(), "text");
      return value.get<std::string>();
    };
    const auto& rewrite = field(root[i], "requested_rewrite");
    const std::string subject = text(rewrite, "subject"), pattern = text(rewrite, "prompt");
    const std::string fresh = text(field(rewrite, "target_new"), "str"),
                      known = text(field(rewrite, "target_true"), "str");
    const size_t at = pattern.find("{}");
    if (at == std::string::npos)
      refuse(here, "prompt has no place for the subject", printable(pattern), "{} in it");
    const std::string statement = pattern.substr(0, at) + subject + pattern.substr(at + 2);
    if (occurs(statement, fresh) || occurs(statement, known) || occurs(known, fresh) ||
        occurs(fresh, known))
      continue;  // a few published records give their answer away
    Probe probe;
    probe.id = root[i].contains("case_id") ? cat("counterfact-file-", root[i]["case_id"].dump())
                                           : cat("counterfact-file-", i);
    probe.family = "counterfact_file";
    probe.completion = true;
    probe.context = statement + " " + fresh + ".";
    probe.prompt = statement;
    probe.markers = {fresh};
    probe.parametric = {known};
    probe.answer = " " + fresh;
    probe.group = subject;
    probes.push_back(std::move(probe));
  }
  if (probes.empty())
    refuse(where, "no usable record", cat(root.size(), " records"), "one at least");
  check_probes(probes, where);
  return probes;
}

std::vector<Probe> read_counterfact(const std::filesystem::path& file, int64_t limit) {
  return parse_counterfact(read_text(file), file.string(), limit);
}

}  // namespace kvlingua
