#include "eval/personas/design.h"

#include <algorithm>
#include <memory>

#include "eval/geometry/yaml_texts.h"
#include "kvlingua/base/error.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/text/chat_template.h"

namespace kvlingua {

namespace {

Persona persona_from(const std::string& key, const YAML::Node& node, const TextFile& file,
                     SeenTexts& seen) {
  Persona persona{key, key, key, {}, {}};
  const std::string whose = "persona " + printable(key, 60);
  if (!node.IsMap()) {
    persona.wordings = file.texts(node, whose, seen);
    return persona;
  }
  if (node["name"]) persona.name = persona.label = node["name"].Scalar();
  if (node["label"]) persona.label = node["label"].Scalar();
  SeenTexts markers;  // those of one persona alone
  if (node["markers"])
    persona.markers = file.texts(node["markers"], "markers of " + whose, markers);
  for (const char* name : {"wordings", "text", "system_prompt"})
    if (persona.wordings.empty() && node[name])
      persona.wordings = file.texts(node[name], whose, seen);
  if (persona.wordings.empty())
    file.refuse(node.Mark(), whose + " has no texts", "wordings: [...]");
  return persona;
}

std::vector<Persona> personas_from(const YAML::Node& node, const TextFile& file, SeenTexts& seen) {
  std::vector<Persona> out;
  if (!node) return out;
  if (!node.IsMap()) file.refuse(node.Mark(), "personas are not a map", "key: texts");
  std::vector<std::string> names;
  for (const auto& entry : node) {
    names.push_back(file.name(entry.first, "persona", names));
    out.push_back(persona_from(names.back(), entry.second, file, seen));
  }
  for (const Persona& persona : out)
    if (persona.wordings.size() != out[0].wordings.size())
      file.refuse(node.Mark(),
                  cat(printable(persona.key, 60), " has ", persona.wordings.size(), " wordings, ",
                      printable(out[0].key, 60), " has ", out[0].wordings.size()),
                  "as many wordings of each");
  return out;
}

std::vector<Recognition> recognition_from(const YAML::Node& node, const TextFile& file) {
  if (!node) return {{"Who are you?", "I am"}, {"What is it that you do?", "I am"}};
  std::vector<Recognition> out;
  if (node.IsSequence())
    for (const auto& entry : node) {
      if (!entry.IsMap() || !entry["prompt"] || !entry["beginning"])
        file.refuse(entry.Mark(), "not a question of recognition", "prompt and beginning");
      out.push_back({entry["prompt"].Scalar(), entry["beginning"].Scalar()});
    }
  if (out.empty())
    file.refuse(node.Mark(), "recognition has no questions", "a list of prompt and beginning");
  return out;
}

std::vector<PromptGroup> groups_from(const YAML::Node& prompts, const TextFile& file) {
  std::vector<PromptGroup> groups;
  SeenTexts seen;  // over all groups: a prompt counts once
  if (!prompts.IsMap()) return {{"all", file.texts(prompts, "prompts", seen)}};
  std::vector<std::string> names;
  for (const auto& group : prompts) {
    names.push_back(file.name(group.first, "group", names));
    groups.push_back(
        {names.back(), file.texts(group.second, "group " + printable(names.back(), 60), seen)});
  }
  return groups;
}

}  // namespace

int64_t IdentityDesign::prompts() const {
  int64_t n = 0;
  for (const PromptGroup& group : groups) n += static_cast<int64_t>(group.prompts.size());
  return n;
}
int64_t IdentityDesign::wordings() const {
  return static_cast<int64_t>(personas[0].wordings.size());
}

std::filesystem::path builtin_identity() {
  return project_root() / "eval" / "probes" / "identity.yaml";
}

IdentityDesign read_identity(const std::filesystem::path& path) {
  const TextFile file{path.string(), "eval/probes/identity.yaml"};
  const YAML::Node root = file.load();
  if (!root.IsMap() || !root["personas"])
    file.refuse(root.Mark(), "not a file of personas", "personas and prompts");
  IdentityDesign design;
  SeenTexts seen;  // two personas of one text cannot be told apart
  design.personas = personas_from(root["personas"], file, seen);
  design.topics = personas_from(root["topics"], file, seen);
  if (design.personas.size() < 2)
    file.refuse(root["personas"].Mark(), cat(design.personas.size(), " persona"),
                "two at least: one alone can be told from nothing");
  const YAML::Node prompts = root["prompts"];
  if (!prompts || !(prompts.IsMap() || prompts.IsSequence()) || prompts.size() == 0)
    file.refuse(root.Mark(), "no prompts", "prompts: a map from group to texts, or a list");
  design.groups = groups_from(prompts, file);
  design.recognition = recognition_from(root["recognition"], file);
  return design;
}

void shorten(IdentityDesign& design, int64_t wordings, int64_t prompts_per_group) {
  const auto cut = [](std::vector<std::string>& texts, int64_t n) {
    if (n > 0 && static_cast<int64_t>(texts.size()) > n) texts.resize(static_cast<size_t>(n));
  };
  for (auto* kind : {&design.personas, &design.topics})
    for (Persona& persona : *kind) cut(persona.wordings, wordings);
  for (PromptGroup& group : design.groups) cut(group.prompts, prompts_per_group);
}

SystemTexts system_texts(const IdentityDesign& design, const Tokenizer& tokenizer,
                         bool equal_length) {
  SystemTexts out;
  const auto tokens = [&](const std::string& text) { return tokenizer.encode(text, false).ids; };
  std::vector<size_t> lengths;
  for (const auto* kind : {&design.personas, &design.topics})
    for (const Persona& persona : *kind)
      for (const std::string& text : persona.wordings) lengths.push_back(tokens(text).size());
  const auto [low, high] = std::ranges::minmax(lengths);
  out.shortest = static_cast<int64_t>(low);
  out.longest = static_cast<int64_t>(high);
  // The decoded beginning of a text may tokenise differently at its cut; cut from the tokens' text.
  const bool cut = equal_length && static_cast<double>(low) >= 0.85 * static_cast<double>(high);
  out.equal = cut || low == high;
  const auto all = [&](const std::vector<Persona>& from,
                       std::vector<std::vector<std::string>>& to) {
    for (const Persona& persona : from) {
      to.emplace_back();
      for (const std::string& text : persona.wordings) {
        std::vector<int64_t> ids = tokens(text);
        if (cut) ids.resize(low);
        to.back().push_back(cut ? tokenizer.decode(ids) : text);
        out.equal = out.equal && tokens(to.back().back()).size() == low;
      }
    }
  };
  all(design.personas, out.personas);
  all(design.topics, out.topics);
  return out;
}

std::function<std::vector<int64_t>(const std::string&, const std::string&)> joiner(
    const Tokenizer& tokenizer, const std::string& format) {
  const auto rendered = [&tokenizer](std::string text) {
    return prepend_bos(tokenizer, tokenizer.encode(text, false).ids);
  };
  if (format == "plain")
    return [rendered](const std::string& system, const std::string& user) {
      return rendered(cat("System: ", system, "\nUser: ", user, "\nAssistant:"));
    };
  ChatFamily family = ChatFamily::kQwen25;
  if (format == "llama3") family = ChatFamily::kLlama3;
  if (format == "chat") family = recognise_chat_family(tokenizer);
  return [rendered, family](const std::string& system, const std::string& user) {
    return rendered(render_chat(family, {{"system", system}, {"user", user}}));
  };
}

}  // namespace kvlingua
