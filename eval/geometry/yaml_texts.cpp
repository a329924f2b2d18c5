#include "eval/geometry/yaml_texts.h"

#include <algorithm>
#include <optional>
#include <sstream>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/io/json.h"

namespace kvlingua {

namespace {

bool blank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n") == std::string::npos;
}

// Its words with one space between them.
std::string evened(const std::string& text) {
  std::istringstream words(text);
  std::string out;
  for (std::string word; words >> word;) out += (out.empty() ? "" : " ") + word;
  return out;
}

}  // namespace

void TextFile::refuse(const YAML::Mark& mark, std::string what, std::string expected) const {
  throw Error(
      {.code = ExitCode::kInput,
       .where = mark.is_null() ? where : cat(where, ":", mark.line + 1, ":", mark.column + 1),
       .what = std::move(what),
       .expected = std::move(expected),
       .remedy = cat("see ", example, " for the form")});
}

YAML::Node TextFile::load() const {
  const std::string text = read_text_file(where);
  // UTF-16 by its mark is YAML too; other bytes would end in results that cannot be written.
  const bool utf16 = text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF");
  if (const auto at = utf16 ? std::nullopt : find_invalid_utf8(text))
    refuse(YAML::Mark::null_mark(), cat("not UTF-8 at byte ", *at), "text in UTF-8");
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    refuse(error.mark, "not readable as YAML: " + printable(error.msg), "YAML or JSON");
  }
}

std::string TextFile::name(const YAML::Node& key, const std::string& kind,
                           const std::vector<std::string>& earlier) const {
  if (!key.IsScalar() || blank(key.Scalar())) refuse(key.Mark(), kind + " has no name", "a word");
  const std::string name = key.Scalar();
  if (std::ranges::find(earlier, name) != earlier.end())
    refuse(key.Mark(), cat(kind, " ", printable(name, 60), " is there twice"), "once");
  return name;
}

std::vector<std::string> TextFile::texts(const YAML::Node& node, const std::string& whose,
                                         SeenTexts& seen) const {
  std::vector<std::string> out;
  const auto add = [&](const YAML::Node& entry) {
    const auto [there, fresh] = seen.emplace(
        evened(entry.Scalar()), cat(whose, ", line ", std::max(entry.Mark().line, 0) + 1));
    if (!fresh)
      refuse(entry.Mark(),
             cat(whose, ": the same text twice: \"", printable(there->first, 60), "\" (",
                 there->second, ")"),
             "each text once, since every one counts as an item of its own");
    out.push_back(entry.Scalar());
  };
  if (node.IsScalar() && !blank(node.Scalar())) add(node);
  if (node.IsMap()) refuse(node.Mark(), whose + " is not a list", "texts");
  if (node.IsSequence())
    for (const auto& entry : node) {
      if (!entry.IsScalar() || blank(entry.Scalar()))
        refuse(entry.Mark(), "an entry of " + whose + " is no text", "words");
      add(entry);
    }
  if (out.empty()) refuse(node.Mark(), whose + " has no texts", "one at least");
  return out;
}

}  // namespace kvlingua
