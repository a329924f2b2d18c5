#include "eval/geometry/older_results.h"

#include "kvlingua/base/error.h"
#include "kvlingua/io/json.h"

namespace kvlingua {

std::string without_python_numbers(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool quoted = false;
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    if (quoted && rest.size() > 1 && rest[0] == '\\') {
      out += rest.substr(0, 2);
      at += 2;
      continue;
    }
    if (rest[0] == '"') quoted = !quoted;
    size_t word = 0;
    for (const std::string_view one : {"NaN", "Infinity", "-Infinity"})
      if (!quoted && rest.starts_with(one)) word = one.size();
    if (word > 0) {
      out += "null";
      at += word;
    } else {
      out += rest[0];
      ++at;
    }
  }
  return out;
}

nlohmann::json read_older_results(const std::string& file) {
  return parse_json(without_python_numbers(read_text_file(file)), printable(file));
}

}  // namespace kvlingua
