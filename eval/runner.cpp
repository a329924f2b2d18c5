#include "eval/runner.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "eval/injection.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
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

// One condition over the items of one block that have no answer yet.
class BlockRun {
 public:
  BlockRun(Block& block, const RunnerOptions& options) : block_(block), options_(options) {}

  std::vector<Answer> run(const Condition& condition, const std::vector<size_t>& items,
                          RunnerResult& result) {
    std::vector<Given> given;
    double began = StageMeter::now();
    for (size_t i : items) given.push_back(condition.give(block_, i));
    check_control(condition, items, given, result);
    note("give", condition, static_cast<double>(items.size()), began);
    const bool full_text = condition.name() == "full_text";
    std::vector<Answer> answers;
    std::vector<at::Tensor> distributions;
    in_batches(items.size(), options_.batch_size, [&](size_t begin, size_t end) {
      const auto first = static_cast<int64_t>(begin), last = static_cast<int64_t>(end);
      began = StageMeter::now();
      ReadRows read(block_.target(), {given.begin() + first, given.begin() + last},
                    options_.max_new_tokens);
      std::vector<Likelihood> gold, known;
      if (options_.likelihoods && condition.chat_layout()) {
        const Continuations wanted = continuations(items, begin, end);
        gold = read.likelihoods(wanted.gold, true);
        if (wanted.any_known) known = read.likelihoods(wanted.known, false);
      }
      note("read", condition, static_cast<double>(last - first), began);
      const auto rows = read.answer(options_.max_new_tokens);
      note("decode", condition, 1, began);
      for (size_t k = begin; k < end; ++k) {
        Answer answer = to_answer(condition, items[k], given[k], rows[k - begin]);
        if (!known.empty()) answer.nll_parametric = known[k - begin].nll;
        if (!gold.empty()) {
          answer.nll_answer = gold[k - begin].nll;
          const at::Tensor& distribution = gold[k - begin].log_probs_TV;
          if (full_text) distributions.push_back(distribution);
          if (distribution.defined())
            answer.kl = full_text ? 0 : mean_kl(reference(items[k]), distribution);
        }
        answers.push_back(std::move(answer));
      }
    });
    // What everything else is compared with, once it is there for the whole block.
    if (full_text && distributions.size() == block_.size()) reference_ = std::move(distributions);
    return answers;
  }

 private:
  void note(const char* what, const Condition& condition, double units, double& began) const {
    const double end = StageMeter::now();
    if (options_.meter != nullptr)
      options_.meter->add(cat(what, " ", condition.name()), units, end - began);
    began = end;
  }

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
    note_distance(result.control_distance, condition.name(), distance);
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
    answer.bytes_moved = given.bytes_moved;
    for (float value : row.logprobs) answer.logprob += value;
    answer.score = score(probe, answer.text, static_cast<int64_t>(row.ids.size()), row.stopped);
    return answer;
  }

  struct Continuations {
    std::vector<std::vector<int64_t>> gold, known;
    bool any_known = false;
  };
  Continuations continuations(const std::vector<size_t>& items, size_t begin, size_t end) const {
    Continuations wanted;
    for (size_t k = begin; k < end; ++k) {
      wanted.gold.push_back(block_.item(items[k]).answer);
      wanted.known.push_back(block_.item(items[k]).parametric);
      wanted.any_known = wanted.any_known || !wanted.known.back().empty();
    }
    return wanted;
  }

  // What the target, having read the text, thinks of the gold answer. full_text leaves it here; in
  // a resumed run that has no need of full_text it is read for all items of the block at once.
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
  const int64_t rank = options.store.rank, ranks = options.store.ranks;
  AnswerStore store(options.store, result.answers, result.control_distance);
  const auto mine = [&](size_t block) { return static_cast<int64_t>(block) % ranks == rank; };
  // full_text first: the others are compared with it.
  std::vector<const Condition*> order;
  for (const auto& condition : conditions) order.push_back(condition.get());
  std::stable_partition(order.begin(), order.end(),
                        [](const Condition* c) { return c->name() == "full_text"; });
  int64_t total = 0;
  for (size_t b = 0; b < blocks.size(); ++b)
    if (mine(b)) total += static_cast<int64_t>(blocks[b].size() * conditions.size());
  Progress progress("evaluate", total, "answers");
  for (size_t b = 0; b < blocks.size(); ++b) {
    Block block(blocks[b], source, target, block_options);
    if (mine(b)) {
      BlockRun run(block, options);
      const int64_t before = result.generated;
      for (const Condition* condition : order) {
        std::vector<size_t> missing;
        for (size_t i = 0; i < block.size(); ++i)
          if (!result.answers.has(condition->name(), item_key(*block.item(i).probe)))
            missing.push_back(i);
        const auto made = static_cast<int64_t>(missing.size());
        progress.skip(static_cast<int64_t>(block.size()) - made);
        if (missing.empty()) continue;
        const auto began = Clock::now();
        for (Answer& answer : run.run(*condition, missing, result)) {
          store.add(answer);
          result.answers.add(std::move(answer));
        }
        result.generated += made;
        result.seconds_by_condition[condition->name()] += seconds_since(began);
        progress.advance(made, condition->name());
        if (stop_requested()) {
          store.add_distances(result.control_distance);
          store.sync();
          throw stopped_error(cat(result.generated, " answers are kept in ",
                                  options.store.file.string(), "; run again to go on"));
        }
      }
      if (result.generated > before) store.add_distances(result.control_distance);
    }
    if (after_block && rank == 0) after_block(block);
    give_back_freed_memory();
  }
  store.sync();
  if (rank > 0) {
    store.finish({result.generated, result.seconds_by_condition});
    result.joined = false;
    return result;
  }
  for (const RankWork& work : store.join(result.answers, result.control_distance)) {
    result.generated += work.generated;
    for (const auto& [name, seconds] : work.seconds_by_condition)
      result.seconds_by_condition[name] += seconds;
  }
  result.resumed = static_cast<int64_t>(result.answers.size()) - result.generated;
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace kvlingua
