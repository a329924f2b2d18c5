// CSV as benchmark files have it (benchmark.h): quoted fields, line breaks inside them.
#include "eval/benchmarks/benchmark.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua {

std::vector<std::vector<std::string>> parse_csv(std::string_view text, const std::string& where) {
  text = without_bom(text);
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string field;
  bool quoted = false, started = false;
  int64_t line = 1;
  const auto end_row = [&] {
    if (!started && row.empty()) return;
    row.push_back(std::move(field));
    field.clear();
    rows.push_back(std::move(row));
    row.clear();
    started = false;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (quoted) {
      if (c != '"')
        field += c;
      else if (i + 1 < text.size() && text[i + 1] == '"')
        field += text[++i];
      else
        quoted = false;
    } else if (c == '"' && field.empty()) {
      quoted = started = true;
    } else if (c == ',') {
      row.push_back(std::move(field));
      field.clear();
      started = true;
    } else if (c == '\n') {
      end_row();
    } else if (c != '\r') {
      field += c;
      started = true;
    }
  }
  if (quoted)
    throw Error({.code = ExitCode::kInput,
                 .where = cat(where, ":", line),
                 .what = "a quote is never closed"});
  end_row();
  return rows;
}

}  // namespace kvlingua
