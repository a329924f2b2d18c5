// Lists of texts in the YAML (or JSON) files that sweep and identity read.
#pragma once

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace kvlingua {

// Where each text of a file stands first, "category coding, line 7", by the text with its white
// space made even.
using SeenTexts = std::map<std::string, std::string>;

// A file of texts: its place in errors and the shipped file that shows its form.
struct TextFile {
  std::string where;    // as errors name it
  std::string example;  // "eval/probes/identity.yaml"

  // Throws Error (kInput) with where:line:column.
  [[noreturn]] void refuse(const YAML::Mark& mark, std::string what, std::string expected) const;
  // The document. Throws Error (kInput) where it cannot be read as YAML.
  YAML::Node load() const;
  // The name of an entry of a map, of its own among `earlier`.
  std::string name(const YAML::Node& key, const std::string& kind,
                   const std::vector<std::string>& earlier) const;
  // The texts of a list, or the one text. Throws Error (kInput): an entry that is no text or holds
  // no words, one that stands in `seen` already, nothing at all. `whose`: "category coding".
  // What is counted is texts, so that the same one twice would be two of what is one.
  std::vector<std::string> texts(const YAML::Node& node, const std::string& whose,
                                 SeenTexts& seen) const;
};

}  // namespace kvlingua
