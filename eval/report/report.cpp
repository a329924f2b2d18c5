#include "eval/report/report.h"

#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"

namespace kvlingua {

namespace {

using Json = nlohmann::ordered_json;

// Names and answers come from files of strangers: in Markdown they are text, neither tags nor links
// nor control characters.
std::string text_for_markdown(std::string_view text) {
  std::string out;
  for (const char c : printable_lines(text)) {
    if (c == '<' || c == '>' || c == '&') {
      out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : "&amp;";
    } else if (c == '[' || c == ']') {
      out += {'\\', c};
    } else {
      out += c;
    }
  }
  return out;
}

Json for_markdown(const Json& value) {
  if (value.is_string()) return text_for_markdown(value.get_ref<const std::string&>());
  if (value.is_array()) {
    Json out = Json::array();
    for (const Json& one : value) out.push_back(for_markdown(one));
    return out;
  }
  if (!value.is_object()) return value;
  Json out = Json::object();
  for (const auto& [key, one] : value.items()) out[text_for_markdown(key)] = for_markdown(one);
  return out;
}

}  // namespace

void write_report(const nlohmann::ordered_json& report, const std::filesystem::path& folder) {
  make_directories(folder);
  // Answers may hold bytes that are no UTF-8 (a cut character): replaced, not thrown.
  const std::string json = escaped_in_strings(report.dump(
                               2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)) +
                           "\n";
  const auto clean = nlohmann::ordered_json::parse(json);
  write_file_atomic(folder / "report.json", json);
  write_file_atomic(folder / "report.md", report_markdown(for_markdown(clean)));
  write_file_atomic(folder / "report.html", report_html(clean));
}

}  // namespace kvlingua
