#include "trainers/engine/observer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/io/json_lines.h"

namespace kvlingua {
namespace {

std::string number(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// ".871", "-.050", "1.000"
std::string share(double value) {
  std::string text = number("%.3f", value);
  const size_t zero = text.find("0.");
  if (std::abs(value) < 1 && zero <= 1) text.erase(zero, 1);
  return text;
}

std::string column(std::string text, size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

std::string validation_text(const TrainState& state, const ValidationNumbers& v) {
  if (v.cross_entropy) return "cross-entropy " + number("%.4f", *v.cross_entropy);
  const auto value = [&](double RowScores::*member) {
    return v.scores ? share((*v.scores).*member) : std::string("-");
  };
  const auto attention = v.scores ? v.scores->attention_output_cosine : std::nullopt;
  std::string line =
      cat("R2 K ", value(&RowScores::key_r2), " V ", value(&RowScores::value_r2), " | cos K ",
          value(&RowScores::key_cosine), " V ", value(&RowScores::value_cosine),
          " | attention cos ", attention ? share(*attention) : std::string("-"));
  if (v.kl) line += " | kl unseen " + number("%.4f", *v.kl);
  if (v.kl_trained)
    line += " trained " + number("%.4f", *v.kl_trained) + " gap " +
            number("%.4f", *v.kl - *v.kl_trained);
  if (state.best_score && v.kl && state.best_step != state.step)
    line += cat(" | best at step ", state.best_step);
  return line;
}

class ConsoleObserver : public Observer {
 public:
  void step(const StepReport& report) override { log_info(step_line(report)); }
  void validation(const TrainState& state, const ValidationNumbers& v) override {
    log_info(cat("validation at step ", state.step, " | ", validation_text(state, v)));
  }
  void remark(const std::string& line) override { log_info(line); }
};

class JsonLinesObserver : public Observer {
 public:
  explicit JsonLinesObserver(const std::filesystem::path& run)
      : metrics_(run / "metrics.jsonl"), timing_(run / "timing.jsonl") {}
  void begin(const TrainState& state, bool resumed) override {
    if (!resumed && state.global_step != 0) return;
    const uint64_t then = resumed ? state.metrics_bytes : 0;
    if (metrics_.size() >= then) return metrics_.truncate(then);
    // Taken away, or not copied with the run: training does not depend on it.
    log_warning(cat("metrics.jsonl holds ", metrics_.size(), " bytes, ", then,
                    " when the checkpoint was written: what was measured before is not in it"));
  }
  void step(const StepReport& r) override {
    nlohmann::ordered_json line = {{"stage", r.stage},
                                   {"step", r.step},
                                   {"loss", r.loss},
                                   {"lr", r.lr},
                                   {"gradient_norm", r.gradient_norm}};
    for (const auto& [name, value] : r.parts) line[name] = value;
    metrics_.write(line);
    nlohmann::ordered_json timing = {{"stage", r.stage}, {"step", r.step}};
    timing["ms_per_step"] = 1e3 * r.seconds / static_cast<double>(r.steps);
    timing["tokens_per_second"] = static_cast<double>(r.tokens) / r.seconds;
    if (r.peak_share) timing["peak_share"] = *r.peak_share;
    timing["memory_bytes"] = r.memory_bytes;
    timing_.write(timing);
  }
  void validation(const TrainState& state, const ValidationNumbers& numbers) override {
    metrics_.write(nlohmann::ordered_json{
        {"stage", state.stage}, {"step", state.step}, {"validation", numbers.to_json()}});
  }
  void before_save(TrainState& state) override {
    metrics_.sync();
    state.metrics_bytes = metrics_.size();
  }

 private:
  JsonLinesWriter metrics_, timing_;
};

}  // namespace

std::string step_line(const StepReport& r) {
  const std::string total = std::to_string(r.total_steps), step = std::to_string(r.step);
  std::string line = column(cat("step ", step, "/", total), 6 + 2 * total.size());
  line += " | " + column("loss " + number("%.4f", r.loss), 12);
  std::string cosines, others;
  for (const auto& [name, value] : r.parts) {
    if (name == "key_cosine") {
      cosines += " K " + share(value);
    } else if (name == "value_cosine") {
      cosines += " V " + share(value);
    } else {
      const bool counted = value == std::floor(value);
      others += " | " + name + number(counted ? " %.0f" : " %.4f", value);
    }
  }
  if (!cosines.empty()) line += " | cos" + cosines;
  line += others + " | lr " + number("%.1e", r.lr);
  const double milliseconds = 1e3 * r.seconds / static_cast<double>(r.steps);
  line += " | " + column(number("%.0f ms", milliseconds), 8);
  const double rate = static_cast<double>(r.tokens) / r.seconds;
  line += " | " + column(count_text(rate) + " tok/s", 12);
  if (r.peak_share) {
    const double percent = 100 * *r.peak_share;
    line += " | " + column(number(percent < 10 ? "%.1f" : "%.0f", percent) + " % of peak", 13);
  }
  line += " | " + bytes_text(static_cast<double>(r.memory_bytes));
  return line;
}

std::unique_ptr<Observer> make_console_observer() { return std::make_unique<ConsoleObserver>(); }
std::unique_ptr<Observer> make_json_lines_observer(const std::filesystem::path& run) {
  return std::make_unique<JsonLinesObserver>(run);
}

}  // namespace kvlingua
