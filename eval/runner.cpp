#include "eval/runner.h"

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

// The answers of an earlier run with the same fingerprint; the file is started anew otherwise.
class Store {
 public:
  Store(const RunnerOptions& options, Answers& answers, int64_t& resumed) {
    if (options.file.empty()) return;
    std::filesystem::create_directories(options.file.parent_path());
    const bool same = options.resume && belongs(options);
    if (same) {
      read_json_lines(options.file, [&](const nlohmann::json& json, size_t line) {
        if (line == 1) return;
        answers.add(Answer::from_json(json, cat(options.file.string(), ":", line)));
        ++resumed;
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
                          int64_t& bytes_moved) {
    std::vector<Given> given;
    for (size_t i : items) given.push_back(condition.give(block_, i));
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
  Store store(options, result.answers, result.resumed);
  int64_t total = 0;
  for (const auto& items : blocks) total += static_cast<int64_t>(items.size() * conditions.size());
  Progress progress("evaluate", total, "answers");
  std::map<std::string, int64_t> counted;
  for (const auto& items : blocks) {
    Block block(items, source, target, block_options);
    BlockRun run(block, options);
    for (const auto& condition : conditions) {
      std::vector<size_t> missing;
      for (size_t i = 0; i < block.size(); ++i)
        if (!result.answers.has(condition->name(), item_key(*block.item(i).probe)))
          missing.push_back(i);
      progress.skip(static_cast<int64_t>(block.size() - missing.size()));
      if (missing.empty()) continue;
      const auto began = Clock::now();
      for (Answer& answer : run.run(*condition, missing, result.bytes_moved[condition->name()])) {
        store.add(answer);
        result.answers.add(std::move(answer));
      }
      counted[condition->name()] += static_cast<int64_t>(missing.size());
      result.generated += static_cast<int64_t>(missing.size());
      result.seconds_by_condition[condition->name()] += seconds_since(began);
      progress.advance(static_cast<int64_t>(missing.size()), condition->name());
      if (stop_requested()) {
        store.sync();
        throw stopped_error(cat(result.generated, " answers are kept in ", options.file.string(),
                                "; run again to go on"));
      }
    }
    if (after_block) after_block(block);
  }
  store.sync();
  for (auto& [name, bytes] : result.bytes_moved)
    if (counted[name] > 0) bytes /= counted[name];
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace kvlingua
