// Progress of something long on stderr: a bar on a terminal, a plain line every few seconds
// otherwise.
//
//   Progress progress("generate", total_tokens, "tokens");
//   progress.advance(n);                      // from any thread
//   progress.advance(n, "shard 3");           // with a remark at the end of the line
//
// Rate and time left come from what was advanced since the start; progress.skip(n) counts work
// found done on resume without spoiling the rate. NO_COLOR and TERM=dumb are honoured.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace kvlingua {

enum class ProgressMode { kAuto, kBar, kLines, kNone };
// For the whole process; main.cpp sets kNone for -q. kAuto: a bar when stderr is a terminal, else
// lines.
void set_progress_mode(ProgressMode mode);

class Progress {
 public:
  // total 0: unknown. Nothing is shown before a tenth of a second (bar) or the first interval
  // (lines) has passed.
  Progress(std::string label, int64_t total, std::string unit);
  ~Progress();  // finishes
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(int64_t count = 1, std::string_view remark = {});
  void skip(int64_t count);
  // Leaves the final state as a line (when anything was shown), and stops.
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Wipes the bar, so that another line can be written; the next advance() draws it again. Called by
// the log.
void clear_progress_line();

// "2 h 05 min", "3 min 20 s", "4.2 s"
std::string duration_text(double seconds);
// "1.5 GiB", "512 B"
std::string bytes_text(double bytes);
// "39.8k", "1.20M", "812"
std::string count_text(double count);

}  // namespace kvlingua
