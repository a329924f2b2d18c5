// A regular expression or literal string of a tokenizer.json, matched over valid UTF-8 with PCRE2
// (JIT).
//
// The files are written for Oniguruma (Ruby syntax, Unicode classes). What both engines read alike
// is translated; constructs that differ or are not known here are refused by name when the file is
// loaded.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvlingua::text {

using Range = std::pair<size_t, size_t>;  // [begin, end) in bytes

class Pattern {
 public:
  // where: file and place, for errors. Both throw Error (kInput).
  static Pattern regex(std::string_view source, const std::string& where);
  static Pattern literal(std::string_view text, const std::string& where);

  // All matches from left to right, appended to `out`. An empty match right behind another match is
  // skipped. Throws Error (kInput) when a match needs more steps than is sensible for the length of
  // the subject.
  void find_all(std::string_view subject, std::vector<Range>& out) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;  // nullptr: a literal
  std::string literal_;
  std::string where_;
};

// Oniguruma pattern -> PCRE2 pattern; exposed for its tests. Throws Error (kInput).
std::string translate_regex(std::string_view source, const std::string& where);

}  // namespace kvlingua::text
