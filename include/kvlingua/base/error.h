// The one exception type of kvlingua, and the exit codes it maps to.
//
// A message is one line that names the place, what was found, what was expected and what to do:
//   model.safetensors: tensor model.norm.weight: wrong shape: got [64], expected [128];
//     download the model again
// Libraries throw Error and never print, exit or abort; main.cpp turns an Error into that line and
// an exit code.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace kvlingua {

// Exit codes of the program; part of the command-line contract (README, "Exit codes").
enum class ExitCode : int {
  kOk = 0,
  kFailed = 1,        // the run failed
  kUsage = 2,         // command line or recipe
  kGate = 3,          // a gate was not met, or repeats differ (inspect --determinism)
  kInput = 4,         // input data or model unusable
  kDevice = 5,        // no device, or not enough memory
  kCorrupt = 6,       // a file is damaged
  kDiskFull = 7,      // no space left
  kTerminated = 75,   // stopped by SIGTERM after saving
  kInterrupted = 130  // Ctrl-C after saving
};

// The parts of a message; leave empty what does not apply.
struct ErrorParts {
  ExitCode code = ExitCode::kFailed;
  std::string where;     // file, and the place in it: "config.json: rope_theta", "recipe.yaml:12:3"
  std::string what;      // what failed: "wrong shape"
  std::string got;       // what was found
  std::string expected;  // what should have been there
  std::string remedy;    // what the user can do
};

class Error : public std::runtime_error {
 public:
  explicit Error(ErrorParts parts) : std::runtime_error(format(parts)), parts_(std::move(parts)) {}
  ExitCode code() const { return parts_.code; }
  const ErrorParts& parts() const { return parts_; }

 private:
  static std::string format(const ErrorParts& parts);
  ErrorParts parts_;
};

// Concatenates anything that prints: cat("layer ", 3, " of ", n).
template <class... Args>
std::string cat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

// Text from a file made safe for one line of a message: what could move a terminal's cursor, end a
// line or turn the direction of reading (C0, DEL, C1, bidirectional controls, line separators) and
// bytes that are no UTF-8 are escaped; cut at `limit` bytes.
std::string printable(std::string_view text, size_t limit = 120);
// The same of a text of several lines, whole: line feeds and tabs stay.
std::string printable_lines(std::string_view text);
// JSON or double-quoted YAML with those characters in their \u form: the same document.
std::string escaped_in_strings(std::string_view document);

}  // namespace kvlingua
