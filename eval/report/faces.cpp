#include "eval/report/faces.h"

#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"

namespace kvlingua {

void write_report(const Report& report, const std::filesystem::path& folder) {
  make_directories(folder);
  // Answers may hold bytes that are no UTF-8 (a cut character): replaced, not thrown.
  const std::string json = escaped_in_strings(report.to_json().dump(
                               2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)) +
                           "\n";
  write_file_atomic(folder / "report.json", json);
  write_file_atomic(folder / "report.md", report_markdown(report));
  write_file_atomic(folder / "report.html", report_html(report));
}

}  // namespace kvlingua
