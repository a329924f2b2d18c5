#include "eval/runner.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "eval/injection.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/json_lines.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string digest_of_input(const Given& given) {
  Sha256 hash;
  hash.update(given.made_of);
  hash.update(cat("|", given.position, "|"));
  hash.update(given.tokens.data(), given.tokens.size() * sizeof(int64_t));
  return hash.hex().substr(0, 32);
}

std::string digest_of_markers(const Probe& probe) {
  std::string text;
  for (const auto& marker : probe.markers) text += marker + "\n";
  text += "|\n";
  for (const auto& known : probe.parametric) text += known + "\n";
  return sha256_hex(text).substr(0, 32);
}

void note_distance(RunnerResult& result, const std::string& control, double distance) {
  auto& smallest = result.control_distance.try_emplace(control, distance).first->second;
  smallest = std::min(smallest, distance);
}

// The answers of an earlier run with the same fingerprint; the file is started anew otherwise.
class Store {
 public:
  Store(const RunnerOptions& options, RunnerResult& result) {
    if (options.file.empty()) return;
    std::filesystem::create_directories(options.file.parent_path());
    const bool same = options.resume && belongs(options);
    if (same) {
      read_json_lines(options.file, [&](const nlohmann::json& json, size_t line) {
        if (line == 1) return;
        if (json.is_object() && json.contains("control_distance")) {
          for (const auto& [name, distance] : json["control_distance"].items())
            note_distance(result, name, distance.get<double>());
          return;
        }
        result.answers.add(Answer::from_json(json, cat(options.file.string(), ":", line)));
        ++result.resumed;
      });
    } else {
      std::error_code ignored;
      std::filesystem::remove(options.file, ignored);
    }
    writer_.emplace(options.file);
    if (!same) writer_->write(nlohmann::json{{"evaluation", options.fingerprint}});
  }

  void add(const Answer& answer) {
    if (writer_) writer_->write(answer.to_json());
  }
  // A resumed run must know of a broken control too.
  void add_distances(const std::map<std::string, double>& distances) {
    if (writer_ && !distances.empty())
      writer_->write(nlohmann::json{{"control_distance", distances}});
  }
  void sync() {
    if (writer_) writer_->sync();
  }

 private:
  static bool belongs(const RunnerOptions& options) {
    if (!std::filesystem::exists(options.file)) return false;
    std::string found;
    read_json_lines(options.file, [&](const nlohmann::json& json, size_t line) {
      if (line == 1 && json.is_object() && json.contains("evaluation"))
        found = json["evaluation"].get<std::string>();
    });
    if (!found.empty() && found != options.fingerprint)
      log_info(cat(options.file.string(), " is of another evaluation: starting anew"));
    return found == options.fingerprint;
  }

  std::optional<JsonLinesWriter> writer_;
};

// One condition over the items of one block that have no answer yet.
class BlockRun {
 public:
  BlockRun(Block& block, const RunnerOptions& options) : block_(block), options_(options) {}

  std::vector<Answer> run(const Condition& condition, const std::vector<size_t>& items,
                          RunnerResult& result) {
    std::vector<Given> given;
    for (size_t i : items) given.push_back(condition.give(block_, i));
    check_control(condition, items, given, result);
    int64_t& bytes_moved = result.bytes_moved[condition.name()];
    const auto rows = answer(block_.target(), given, options_.max_new_tokens, options_.batch_size);
    std::vector<Answer> answers;
    for (size_t k = 0; k < items.size(); ++k) {
      answers.push_back(to_answer(condition, items[k], given[k], rows[k]));
      bytes_moved += given[k].bytes_moved;
    }
    if (options_.likelihoods && condition.chat_layout())
      add_likelihoods(condition, items, given, answers);
    return answers;
  }

 private:
  // A control that hands over what it imitates is found here, whatever it is called. One item a
  // block is enough.
  void check_control(const Condition& condition, const std::vector<size_t>& items,
                     const std::vector<Given>& given, RunnerResult& result) {
    const KvCache* imitated = condition.must_differ_from(block_, items.front());
    if (imitated == nullptr || block_.size() < 2) return;
    const int64_t prefix = block_.target().prefix_length();
    const KvCache span = given.front().past.slice(prefix, given.front().past.tokens());
    const int64_t tokens = std::min(span.tokens(), imitated->tokens());
    const at::Tensor wanted = imitated->values().narrow(3, 0, tokens),
                     got = span.values().narrow(3, 0, tokens);
    const double distance = ((got - wanted).norm() / wanted.norm().clamp_min(1e-12)).item<double>();
    note_distance(result, condition.name(), distance);
  }

  Answer to_answer(const Condition& condition, size_t i, const Given& given,
                   const GeneratedRow& row) const {
    const Probe& probe = *block_.item(i).probe;
    Answer answer;
    answer.condition = condition.name();
    answer.item = item_key(probe);
    answer.family = probe.family;
    answer.form = probe.form();
    answer.group = probe.group;
    answer.read = digest_of_input(given);
    answer.scored = digest_of_markers(probe);
    answer.ids = row.ids;
    answer.text = block_.target().decode(row.ids);
    answer.stopped = row.stopped;
    for (float value : row.logprobs) answer.logprob += value;
    answer.score = score(probe, answer.text, static_cast<int64_t>(row.ids.size()), row.stopped);
    return answer;
  }

  void add_likelihoods(const Condition& condition, const std::vector<size_t>& items,
                       const std::vector<Given>& given, std::vector<Answer>& answers) {
    std::vector<std::vector<int64_t>> gold, known;
    bool any_known = false;
    for (size_t i : items) {
      gold.push_back(block_.item(i).answer);
      known.push_back(block_.item(i).parametric);
      any_known = any_known || !known.back().empty();
    }
    const auto likely = likelihoods(block_.target(), given, gold, options_.batch_size, true);
    for (size_t k = 0; k < items.size(); ++k) {
      answers[k].nll_answer = likely[k].nll;
      if (!likely[k].log_probs_TV.defined()) continue;
      if (condition.name() == "full_text")
        answers[k].kl = 0;
      else
        answers[k].kl = mean_kl(reference(items[k]), likely[k].log_probs_TV);
    }
    if (!any_known) return;
    const auto by_heart = likelihoods(block_.target(), given, known, options_.batch_size, false);
    for (size_t k = 0; k < items.size(); ++k) answers[k].nll_parametric = by_heart[k].nll;
  }

  // What the target, having read the text, thinks of the gold answer; for all items of the block at
  // once, when first asked for.
  const at::Tensor& reference(size_t i) {
    if (reference_.empty()) {
      std::vector<Given> given;
      std::vector<std::vector<int64_t>> gold;
      for (size_t k = 0; k < block_.size(); ++k) {
        given.push_back(as_text(block_, k, block_.item(k).span));
        gold.push_back(block_.item(k).answer);
      }
      for (auto& one : likelihoods(block_.target(), given, gold, options_.batch_size, true))
        reference_.push_back(one.log_probs_TV);
    }
    return reference_[i];
  }

  Block& block_;
  const RunnerOptions& options_;
  std::vector<at::Tensor> reference_;
};

}  // namespace

RunnerResult run_conditions(const std::vector<std::vector<Item>>& blocks, const Reader& source,
                            const Reader& target,
                            const std::vector<std::unique_ptr<Condition>>& conditions,
                            const BlockOptions& block_options, const RunnerOptions& options,
                            const std::function<void(Block&)>& after_block) {
  RunnerResult result;
  const auto start = Clock::now();
  Store store(options, result);
  int64_t total = 0;
  for (const auto& items : blocks) total += static_cast<int64_t>(items.size() * conditions.size());
  Progress progress("evaluate", total, "answers");
  std::map<std::string, int64_t> counted;
  for (const auto& items : blocks) {
    Block block(items, source, target, block_options);
    BlockRun run(block, options);
    const int64_t before = result.generated;
    for (const auto& condition : conditions) {
      std::vector<size_t> missing;
      for (size_t i = 0; i < block.size(); ++i)
        if (!result.answers.has(condition->name(), item_key(*block.item(i).probe)))
          missing.push_back(i);
      progress.skip(static_cast<int64_t>(block.size() - missing.size()));
      if (missing.empty()) continue;
      const auto began = Clock::now();
      for (Answer& answer : run.run(*condition, missing, result)) {
        store.add(answer);
        result.answers.add(std::move(answer));
      }
      counted[condition->name()] += static_cast<int64_t>(missing.size());
      result.generated += static_cast<int64_t>(missing.size());
      result.seconds_by_condition[condition->name()] += seconds_since(began);
      progress.advance(static_cast<int64_t>(missing.size()), condition->name());
      if (stop_requested()) {
        store.add_distances(result.control_distance);
        store.sync();
        throw stopped_error(cat(result.generated, " answers are kept in ", options.file.string(),
                                "; run again to go on"));
      }
    }
    if (result.generated > before) store.add_distances(result.control_distance);
    if (after_block) after_block(block);
  }
  store.sync();
  for (auto& [name, bytes] : result.bytes_moved)
    if (counted[name] > 0) bytes /= counted[name];
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace kvlingua
