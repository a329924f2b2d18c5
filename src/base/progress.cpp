#include "kvlingua/base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace kvlingua {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<ProgressMode> chosen_mode{ProgressMode::kAuto};
std::mutex draw_mutex;   // stderr and bar_shown
bool bar_shown = false;  // a bar stands on the cursor's line

ProgressMode mode() {
  const ProgressMode mode = chosen_mode.load();
  if (mode != ProgressMode::kAuto) return mode;
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || std::strcmp(term, "dumb") == 0;
  return isatty(STDERR_FILENO) && !dumb ? ProgressMode::kBar : ProgressMode::kLines;
}

bool colour() {
  const char* no_color = std::getenv("NO_COLOR");
  return no_color == nullptr || *no_color == '\0';
}

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// KVLINGUA_PROGRESS_SECONDS: seconds between plain lines (default 5).
double line_interval() {
  const char* text = std::getenv("KVLINGUA_PROGRESS_SECONDS");
  const double seconds = text == nullptr ? 5.0 : std::atof(text);
  return seconds > 0 ? seconds : 5.0;
}

std::string formatted(const char* form, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, form, value);
  return buffer;
}

void wipe_locked() {
  if (!bar_shown) return;
  std::fputs("\r\x1b[K", stderr);
  std::fflush(stderr);
  bar_shown = false;
}

}  // namespace

struct Progress::Impl {
  std::string label, unit, remark;
  int64_t total = 0;
  ProgressMode mode = ProgressMode::kNone;
  double interval = 0.1;
  Clock::time_point start = Clock::now();
  std::mutex mutex;
  int64_t done = 0, skipped = 0;
  Clock::time_point drawn = Clock::now();
  bool ever_drawn = false, finished = false;

  std::string state(bool last) const {
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const double rate = seconds > 0 ? static_cast<double>(done - skipped) / seconds : 0;
    std::string text;
    if (total > 0) {
      text = count_text(static_cast<double>(done)) + "/" + count_text(static_cast<double>(total)) +
             " " + unit;
    } else {
      text = count_text(static_cast<double>(done)) + " " + unit;
    }
    if (rate > 0) text += ", " + count_text(rate) + " " + unit + "/s";
    if (last) {
      text += ", " + duration_text(seconds);
    } else if (total > done && rate > 0) {
      text += ", " + duration_text(static_cast<double>(total - done) / rate) + " left";
    }
    if (!remark.empty()) text += ", " + remark;
    return text;
  }

  std::string percent() const {
    const double share =
        std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
    return formatted("%3.0f %%", 100 * share);
  }

  void draw_bar() const {
    std::string text = label;
    const std::string tail = state(false);
    if (total > 0) {
      text += " " + percent() + " ";
      const int room = terminal_width() - 1 - static_cast<int>(text.size() + tail.size() + 3);
      if (const int width = std::min(room, 30); width >= 8) {
        const int filled = static_cast<int>(std::clamp<int64_t>(width * done / total, 0, width));
        std::string bar(static_cast<size_t>(filled), '#');
        bar += std::string(static_cast<size_t>(width - filled), '.');
        text += colour() ? "[\x1b[32m" + bar + "\x1b[0m] " : "[" + bar + "] ";
      }
    } else {
      text += " ";
    }
    const std::scoped_lock lock(draw_mutex);
    std::fprintf(stderr, "\r%s%s\x1b[K", text.c_str(), tail.c_str());
    std::fflush(stderr);
    bar_shown = true;
  }

  void draw_line(bool last) const {
    const std::string share = total > 0 ? percent() + ", " : "";
    const std::string line =
        label + ": " +
        (share.starts_with(' ') ? share.substr(share.find_first_not_of(' ')) : share) +
        state(last) + "\n";
    const std::scoped_lock lock(draw_mutex);
    wipe_locked();
    std::fputs(line.c_str(), stderr);
    std::fflush(stderr);
  }

  void draw_if_due() {
    if (mode == ProgressMode::kNone || finished) return;
    const Clock::time_point now = Clock::now();
    if (std::chrono::duration<double>(now - drawn).count() < interval) return;
    drawn = now;
    ever_drawn = true;
    mode == ProgressMode::kBar ? draw_bar() : draw_line(false);
  }
};

void set_progress_mode(ProgressMode mode) { chosen_mode.store(mode); }

Progress::Progress(std::string label, int64_t total, std::string unit)
    : impl_(std::make_unique<Impl>()) {
  impl_->label = std::move(label);
  impl_->unit = std::move(unit);
  impl_->total = std::max<int64_t>(total, 0);
  impl_->mode = mode();
  impl_->interval = impl_->mode == ProgressMode::kLines ? line_interval() : 0.1;
}

Progress::~Progress() { finish(); }

void Progress::advance(int64_t count, std::string_view remark) {
  const std::scoped_lock lock(impl_->mutex);
  impl_->done += count;
  if (!remark.empty()) impl_->remark = remark;
  impl_->draw_if_due();
}

void Progress::skip(int64_t count) {
  const std::scoped_lock lock(impl_->mutex);
  impl_->done += count;
  impl_->skipped += count;
}

void Progress::finish() {
  const std::scoped_lock lock(impl_->mutex);
  if (impl_->finished) return;
  impl_->finished = true;
  if (impl_->ever_drawn) impl_->draw_line(true);
}

void clear_progress_line() {
  const std::scoped_lock lock(draw_mutex);
  wipe_locked();
}

std::string duration_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "unknown time";
  if (seconds < 10) return formatted("%.1f s", seconds);
  if (seconds < 99.5) return formatted("%.0f s", seconds);
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  char buffer[64];
  if (whole < 3600) {
    std::snprintf(buffer, sizeof buffer, "%d min %02d s", static_cast<int>(whole / 60),
                  static_cast<int>(whole % 60));
  } else if (whole < 48 * 3600) {
    std::snprintf(buffer, sizeof buffer, "%d h %02d min", static_cast<int>(whole / 3600),
                  static_cast<int>(whole / 60 % 60));
  } else {
    std::snprintf(buffer, sizeof buffer, "%d d %d h", static_cast<int>(whole / 86400),
                  static_cast<int>(whole / 3600 % 24));
  }
  return buffer;
}

std::string bytes_text(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  int unit = 0;
  while (std::abs(bytes) >= 1024 && unit < 5) bytes /= 1024, ++unit;
  return formatted(unit == 0 ? "%.0f " : bytes < 10 ? "%.2f " : "%.1f ", bytes) + kUnits[unit];
}

std::string count_text(double count) {
  if (std::abs(count) < 10 && count != std::floor(count)) return formatted("%.1f", count);
  if (std::abs(count) < 10000) return formatted("%.0f", count);
  if (std::abs(count) < 1e6) return formatted("%.1fk", count / 1e3);
  if (std::abs(count) < 1e9) return formatted("%.2fM", count / 1e6);
  return formatted("%.2fG", count / 1e9);
}

}  // namespace kvlingua
