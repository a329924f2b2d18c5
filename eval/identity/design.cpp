#include "eval/identity/design.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <memory>

#include "kvlingua/base/error.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/json.h"
#include "kvlingua/text/chat_template.h"

namespace kvlingua {

namespace {

[[noreturn]] void refuse(const std::string& where, const YAML::Mark& mark, std::string what,
                         std::string expected) {
  throw Error(
      {.code = ExitCode::kInput,
       .where = mark.is_null() ? where : cat(where, ":", mark.line + 1, ":", mark.column + 1),
       .what = std::move(what),
       .expected = std::move(expected),
       .remedy = "see eval/probes/identity.yaml for the form"});
}

std::vector<std::string> texts_of(const YAML::Node& node, const std::string& where,
                                  const std::string& whose) {
  std::vector<std::string> texts;
  if (node && node.IsScalar()) texts.push_back(node.Scalar());
  if (node && node.IsSequence())
    for (const auto& entry : node) {
      if (!entry.IsScalar()) refuse(where, entry.Mark(), whose + ": an entry is no text", "text");
      texts.push_back(entry.Scalar());
    }
  return texts;
}

Persona persona_from(const std::string& key, const YAML::Node& node, const std::string& where) {
  Persona persona{key, key, key, {}, {}};
  if (node.IsScalar()) {
    persona.wordings.push_back(node.Scalar());
  } else if (node.IsMap()) {
    if (node["name"]) persona.name = persona.label = node["name"].Scalar();
    if (node["label"]) persona.label = node["label"].Scalar();
    persona.markers = texts_of(node["markers"], where, key);
    for (const char* name : {"wordings", "text", "system_prompt"})
      if (persona.wordings.empty()) persona.wordings = texts_of(node[name], where, key);
  }
  std::erase_if(persona.wordings, [](const std::string& text) {
    return text.find_first_not_of(" \t\r\n") == std::string::npos;
  });
  if (persona.wordings.empty())
    refuse(where, node.Mark(), "persona " + printable(key, 60) + " has no texts",
           "wordings: [...]");
  return persona;
}

std::vector<Persona> personas_from(const YAML::Node& node, const std::string& where) {
  std::vector<Persona> out;
  if (!node) return out;
  if (!node.IsMap()) refuse(where, node.Mark(), "personas are not a map", "key: texts");
  for (const auto& entry : node)
    out.push_back(persona_from(entry.first.Scalar(), entry.second, where));
  for (const Persona& persona : out)
    if (persona.wordings.size() != out[0].wordings.size())
      refuse(where, node.Mark(),
             cat(printable(persona.key, 60), " has ", persona.wordings.size(), " wordings, ",
                 printable(out[0].key, 60), " has ", out[0].wordings.size()),
             "as many wordings of each");
  return out;
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

IdentityDesign read_identity(const std::filesystem::path& file) {
  const std::string where = file.string(), text = read_text_file(file);
  IdentityDesign design;
  try {
    const YAML::Node root = YAML::Load(text);
    if (!root.IsMap() || !root["personas"])
      refuse(where, root.Mark(), "not a file of personas", "personas and prompts");
    design.personas = personas_from(root["personas"], where);
    design.topics = personas_from(root["topics"], where);
    if (design.personas.size() < 2)
      refuse(where, root["personas"].Mark(), cat(design.personas.size(), " persona"),
             "two at least: one alone can be told from nothing");
    const YAML::Node prompts = root["prompts"];
    if (!prompts || !(prompts.IsMap() || prompts.IsSequence()))
      refuse(where, root.Mark(), "no prompts", "prompts: a map from group to texts, or a list");
    if (prompts.IsSequence()) design.groups.push_back({"all", texts_of(prompts, where, "prompts")});
    if (prompts.IsMap())
      for (const auto& group : prompts)
        design.groups.push_back(
            {group.first.Scalar(), texts_of(group.second, where, group.first.Scalar())});
    for (const PromptGroup& group : design.groups)
      if (group.prompts.empty())
        refuse(where, prompts.Mark(), "group " + printable(group.name, 60) + " has no prompts",
               "one at least");
  } catch (const YAML::Exception& error) {
    refuse(where, error.mark, "not readable as YAML: " + printable(error.msg), "YAML or JSON");
  }
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
