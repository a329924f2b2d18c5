#include "trainers/engine/observer.h"

#include <cmath>
#include <cstdio>

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

class ConsoleObserver : public Observer {
 public:
  void step(const StepReport& report) override { log_info(step_line(report)); }
  void validation(const TrainState& state, const nlohmann::json& v) override {
    const auto value = [&](const char* name) {
      return v.contains(name) && v[name].is_number() ? share(v[name].get<double>())
                                                     : std::string("-");
    };
    if (v.contains("cross_entropy")) {
      log_info("validation at step " + std::to_string(state.step) + " | cross-entropy " +
               number("%.4f", v["cross_entropy"].get<double>()));
      return;
    }
    std::string line = "validation at step " + std::to_string(state.step) + " | R2 K " +
                       value("key_r2") + " V " + value("value_r2") + " | cos K " +
                       value("key_cosine") + " V " + value("value_cosine") + " | attention cos " +
                       value("attention_output_cosine");
    if (v.contains("kl")) line += " | kl unseen " + number("%.4f", v["kl"].get<double>());
    if (v.contains("kl_trained")) {
      const double trained = v["kl_trained"].get<double>();
      line += " trained " + number("%.4f", trained) + " gap " +
              number("%.4f", v["kl"].get<double>() - trained);
    }
    if (state.best_score && v.contains("kl") && state.best_step != state.step)
      line += " | best at step " + std::to_string(state.best_step);
    log_info(line);
  }
  void remark(const std::string& line) override { log_info(line); }
};

class JsonLinesObserver : public Observer {
 public:
  explicit JsonLinesObserver(const std::filesystem::path& run)
      : metrics_(run / "metrics.jsonl"), timing_(run / "timing.jsonl") {}
  void begin(const TrainState& state, bool resumed) override {
    if (resumed || state.global_step == 0) metrics_.truncate(resumed ? state.metrics_bytes : 0);
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
    timing["memory_bytes"] = r.memory_bytes;
    timing_.write(timing);
  }
  void validation(const TrainState& state, const nlohmann::json& numbers) override {
    metrics_.write(nlohmann::ordered_json{
        {"stage", state.stage}, {"step", state.step}, {"validation", numbers}});
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
  std::string line = "step " + std::to_string(r.step) + "/" + std::to_string(r.total_steps) +
                     " | loss " + number("%.4f", r.loss);
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
  line += " | " + number("%.0f ms", 1e3 * r.seconds / static_cast<double>(r.steps));
  line += " | " + count_text(static_cast<double>(r.tokens) / r.seconds) + " tok/s";
  line += " | " + bytes_text(static_cast<double>(r.memory_bytes));
  return line;
}

std::unique_ptr<Observer> make_console_observer() { return std::make_unique<ConsoleObserver>(); }
std::unique_ptr<Observer> make_json_lines_observer(const std::filesystem::path& run) {
  return std::make_unique<JsonLinesObserver>(run);
}

}  // namespace kvlingua
