#include "eval/report/report.h"

#include "kvlingua/io/atomic_file.h"

namespace kvlingua {

void write_report(const nlohmann::ordered_json& report, const std::filesystem::path& folder) {
  make_directories(folder);
  // Answers may hold bytes that are no UTF-8 (a cut character): replaced, not thrown.
  const std::string json =
      report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  const auto clean = nlohmann::ordered_json::parse(json);
  write_file_atomic(folder / "report.json", json);
  write_file_atomic(folder / "report.md", report_markdown(clean));
  write_file_atomic(folder / "report.html", report_html(clean));
}

}  // namespace kvlingua
