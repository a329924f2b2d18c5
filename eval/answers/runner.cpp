#include "eval/answers/runner.h"

#include <ATen/ATen.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "eval/answers/injection.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/cache/profile_range.h"
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

// One answer to be made.
struct Job {
  const Condition* condition;
  size_t item;
};

bool runs_alone(const Condition& condition) {
  return condition.name() == "full_text" || condition.name() == "same_cache";
}

// The answers of one block that are not there yet.
class BlockRun {
 public:
  // `after_batch` may throw: what was made is done with.
  BlockRun(Block& block, const RunnerOptions& options, std::function<void()> after_batch)
      : block_(block), options_(options), after_batch_(std::move(after_batch)) {}

  // `conditions` in any order; `missing(condition, item)` says what is wanted; `done` gets every
  // answer made.
  void run(const std::vector<const Condition*>& conditions,
           const std::function<bool(const Condition&, size_t)>& missing,
           const std::function<void(Answer)>& done, RunnerResult& result) {
    std::vector<Job> together, bare;  // in the chat layout, and not
    for (const Condition* condition : conditions) {
      std::vector<size_t> items;
      for (size_t i = 0; i < block_.size(); ++i)
        if (missing(*condition, i)) items.push_back(i);
      if (items.empty()) continue;
      if (runs_alone(*condition)) {
        run_whole(*condition, items, done, result);
        continue;
      }
      for (const size_t i : items)
        (condition->chat_layout() ? together : bare).push_back({condition, i});
    }
    for (const std::vector<Job>* jobs : {&together, &bare})
      if (!jobs->empty()) run_jobs(*jobs, rows_for(), done, result);
  }

 private:
  // All items of the block, whichever are missing: its passes must be the same in every run.
  void run_whole(const Condition& condition, const std::vector<size_t>& wanted,
                 const std::function<void(Answer)>& done, RunnerResult& result) {
    std::vector<Job> jobs;
    for (size_t i = 0; i < block_.size(); ++i) jobs.push_back({&condition, i});
    run_jobs(
        jobs, options_.batch_size,
        [&](Answer answer) {
          for (const size_t i : wanted)
            if (item_key(*block_.item(i).probe) == answer.item) {
              done(std::move(answer));
              return;
            }
        },
        result);
  }

  int64_t rows_for() const {
    if (options_.rows > 0) return options_.rows;
    int64_t tokens = 0;
    for (size_t i = 0; i < block_.size(); ++i)
      tokens = std::max(
          tokens, static_cast<int64_t>(block_.item(i).span.size() + block_.item(i).rest.size() +
                                       block_.item(i).answer.size()));
    tokens += block_.target().prefix_length() + options_.max_new_tokens;
    return rows_at_once(*block_.target().model, options_.batch_size, tokens);
  }

  void run_jobs(const std::vector<Job>& jobs, int64_t rows, const std::function<void(Answer)>& done,
                RunnerResult& result) {
    in_batches(jobs.size(), rows, [&](size_t begin, size_t end) {
      run_batch(
          {jobs.begin() + static_cast<int64_t>(begin), jobs.begin() + static_cast<int64_t>(end)},
          done, result);
      after_batch_();
    });
  }

  void run_batch(const std::vector<Job>& jobs, const std::function<void(Answer)>& done,
                 RunnerResult& result) {
    std::vector<Given> given;
    std::map<std::string, int64_t> counts;
    auto phase = std::make_optional<ProfileRange>("give");
    for (const Job& job : jobs) {
      double began = StageMeter::now();
      given.push_back(job.condition->give(block_, job.item));
      if (counts[job.condition->name()]++ == 0)
        check_control(*job.condition, job.item, given.back(), result);
      note("give", *job.condition, 1, began, result);
    }
    const bool likelihoods = options_.likelihoods && jobs.front().condition->chat_layout();
    const bool full_text = jobs.front().condition->name() == "full_text";
    phase.emplace("read");
    double began = StageMeter::now();
    ReadRows read(block_.target(), given, options_.max_new_tokens);
    std::vector<Likelihood> gold, known;
    if (likelihoods) {
      const Continuations wanted = continuations(jobs);
      References references;
      if (!full_text && wanted.any_gold)
        for (const Job& job : jobs) references.push_back(reference(job.item));
      gold = read.likelihoods(wanted.gold, full_text, references);
      if (wanted.any_known) known = read.likelihoods(wanted.known, false);
    }
    if (full_text)
      for (size_t k = 0; k < gold.size(); ++k)
        reference_[jobs[k].item] = std::move(gold[k].log_probs_TV);
    share("read", jobs, began, result);
    phase.emplace("decode");
    const auto rows = read.answer(options_.max_new_tokens);
    share("decode", jobs, began, result);
    for (size_t k = 0; k < jobs.size(); ++k) {
      Answer answer = to_answer(jobs[k].condition->name(), *block_.item(jobs[k].item).probe,
                                rows[k], block_.target());
      answer.read = digest_of_input(given[k]);
      answer.bytes_moved = given[k].bytes_moved;
      if (!known.empty()) answer.nll_parametric = known[k].nll;
      if (!gold.empty()) {
        answer.nll_answer = gold[k].nll;
        if (!block_.item(jobs[k].item).answer.empty()) answer.kl = full_text ? 0 : gold[k].kl;
      }
      done(std::move(answer));
    }
  }

  void note(const char* what, const Condition& condition, double units, double& began,
            RunnerResult& result) const {
    const double end = StageMeter::now();
    add_time(what, condition.name(), units, end - began, result);
    began = end;
  }

  // Of the clock: several blocks share it.
  void add_time(const char* what, const std::string& name, double units, double seconds,
                RunnerResult& result) const {
    seconds /= static_cast<double>(options_.workers);
    if (options_.meter != nullptr) options_.meter->add(cat(what, " ", name), units, seconds);
    result.seconds_by_condition[name] += seconds;
  }

  // What rows of several conditions took together, by their numbers.
  void share(const char* what, const std::vector<Job>& jobs, double& began,
             RunnerResult& result) const {
    const double end = StageMeter::now();
    std::map<std::string, int64_t> counts;
    for (const Job& job : jobs) ++counts[job.condition->name()];
    for (const auto& [name, n] : counts)
      add_time(what, name, static_cast<double>(n),
               (end - began) * static_cast<double>(n) / static_cast<double>(jobs.size()), result);
    began = end;
  }

  // A control that hands over what it imitates is found here, whatever it is called. One item a
  // batch is enough.
  void check_control(const Condition& condition, size_t item, const Given& given,
                     RunnerResult& result) {
    const KvCache* imitated = condition.must_differ_from(block_, item);
    if (imitated == nullptr || block_.size() < 2 || given.past.empty()) return;
    const int64_t tokens = std::min(given.past.tokens(), imitated->tokens());
    const at::Tensor wanted = imitated->values().narrow(3, 0, tokens).to(at::kFloat),
                     got = given.past.values().narrow(3, 0, tokens).to(at::kFloat);
    const double distance = ((got - wanted).norm() / wanted.norm().clamp_min(1e-12)).item<double>();
    note_distance(result.control_distance, condition.name(), distance);
  }

  struct Continuations {
    std::vector<std::vector<int64_t>> gold, known;
    bool any_gold = false, any_known = false;
  };
  Continuations continuations(const std::vector<Job>& jobs) const {
    Continuations wanted;
    for (const Job& job : jobs) {
      wanted.gold.push_back(block_.item(job.item).answer);
      wanted.known.push_back(block_.item(job.item).parametric);
      wanted.any_gold = wanted.any_gold || !wanted.gold.back().empty();
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
      size_t k = 0;
      for (auto& one : likelihoods(block_.target(), given, gold, options_.batch_size, true))
        reference_[k++] = one.log_probs_TV;
    }
    return reference_[i];
  }

  Block& block_;
  const RunnerOptions& options_;
  std::function<void()> after_batch_;
  std::map<size_t, at::Tensor> reference_;  // by item; filled for the whole block or not at all
};

// The others are compared with it.
std::vector<const Condition*> full_text_first(
    const std::vector<std::unique_ptr<Condition>>& conditions) {
  std::vector<const Condition*> order;
  for (const auto& condition : conditions) order.push_back(condition.get());
  std::ranges::stable_partition(order, [](const Condition* c) { return c->name() == "full_text"; });
  return order;
}

// The blocks of a run, shared out among threads of this process, and what comes back of them. What
// an answer is follows from its block alone; everything that is kept goes through one lock.
class BlockQueue {
 public:
  struct Inputs {
    const std::vector<std::vector<Item>>& blocks;
    const Reader &source, &target;
    const std::vector<const Condition*>& order;
    const BlockOptions& block_options;
    const RunnerOptions& options;
    const std::function<void(Block&)>& after_block;
  };
  BlockQueue(const Inputs& in, AnswerStore& store, RunnerResult& result)
      : in_(in),
        store_(store),
        result_(result),
        progress_("evaluate", answers_in_all(), "answers") {}

  // Returns when all blocks are done; throws what the first of its threads threw.
  void run() {
    const at::ThreadLocalState here;  // gradients are off there where they are off here
    const auto count = std::min<int64_t>(in_.options.workers, std::ssize(in_.blocks));
    {
      std::vector<std::jthread> others;
      for (int64_t w = 1; w < count; ++w)
        others.emplace_back([&] {
          const at::ThreadLocalStateGuard guard(here);
          work();
        });
      work();
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  bool mine(size_t block) const {
    return static_cast<int64_t>(block) % in_.options.store.ranks == in_.options.store.rank;
  }

  int64_t answers_in_all() const {
    size_t total = 0;
    for (size_t b = 0; b < in_.blocks.size(); ++b)
      if (mine(b)) total += in_.blocks[b].size() * in_.order.size();
    return static_cast<int64_t>(total);
  }

  void work() {
    try {
      for (size_t b = next_++; b < in_.blocks.size() && !failed_; b = next_++) {
        Block block(in_.blocks[b], in_.source, in_.target, in_.block_options);
        if (mine(b)) answer(block, b);
        if (in_.after_block && in_.options.store.rank == 0) look_at(block, b);
        give_back_freed_memory();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
      failed_ = true;
      turn_came_.notify_all();
    }
  }

  // Those answers that are not there yet, each kept as it is made.
  void answer(Block& block, size_t b) {
    RunnerResult part;  // its times and distances
    const auto missing = [&](const Condition& condition, size_t i) {
      const std::lock_guard lock(mutex_);
      return !result_.answers.has(condition.name(), item_key(*block.item(i).probe));
    };
    int64_t there = 0;
    for (const Condition* condition : in_.order)
      for (size_t i = 0; i < block.size(); ++i) there += !missing(*condition, i);
    const auto keep = [&](Answer answer) {
      const std::lock_guard lock(mutex_);
      store_.add(answer);
      result_.answers.add(std::move(answer));
      ++result_.generated;
      ++part.generated;
      progress_.advance(1, "");
    };
    const auto stop_if_asked = [&] {
      if (!stop_requested()) return;
      const std::lock_guard lock(mutex_);
      store_.add_distances(part.control_distance);
      store_.sync();
      throw stopped_error(cat(result_.generated, " answers are kept in ",
                              in_.options.store.file.string(), "; run again to go on"));
    };
    {
      const std::lock_guard lock(mutex_);
      progress_.skip(there);
      log_debug(cat("block ", b + 1, " of ", in_.blocks.size(), ": ", block.size(), " items of ",
                    block.item(0).probe->family, ", ", there, " answers are there already"));
    }
    BlockRun(block, in_.options, stop_if_asked).run(in_.order, missing, keep, part);
    const std::lock_guard lock(mutex_);
    if (part.generated > 0) store_.add_distances(part.control_distance);
    for (const auto& [control, distance] : part.control_distance)
      note_distance(result_.control_distance, control, distance);
    for (const auto& [name, seconds] : part.seconds_by_condition)
      result_.seconds_by_condition[name] += seconds;
  }

  // Blocks are looked at in their order, whichever thread is done first.
  void look_at(Block& block, size_t b) {
    std::unique_lock lock(mutex_);
    turn_came_.wait(lock, [&] { return turn_ == b || failed_; });
    if (failed_) return;
    lock.unlock();
    in_.after_block(block);
    lock.lock();
    ++turn_;
    turn_came_.notify_all();
  }

  const Inputs in_;
  AnswerStore& store_;
  RunnerResult& result_;
  Progress progress_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;  // of all below, of store_, result_ and progress_
  std::condition_variable turn_came_;
  size_t turn_ = 0;  // the block that is looked at next
  std::exception_ptr failure_;
};

}  // namespace

int64_t rows_at_once(const CausalLM& model, int64_t batch_size, int64_t tokens) {
  const int64_t few = 4 * batch_size;
  if (!model.device().is_cuda()) return few;
  // A row's cache lies there once, once more while rows are dropped or likelihoods read, and its
  // logits three times.
  const auto size = static_cast<int64_t>(at::elementSize(model.dtype()));
  const int64_t row =
      3 * tokens * model.kv_shape().bytes_per_token(size) + 12 * model.config().vocab_size;
  const auto room =
      static_cast<int64_t>(0.5 * static_cast<double>(free_memory_bytes(model.device())));
  return std::clamp(room / row, batch_size, std::max<int64_t>(batch_size, 1024));
}

RunnerResult run_conditions(const std::vector<std::vector<Item>>& blocks, const Reader& source,
                            const Reader& target,
                            const std::vector<std::unique_ptr<Condition>>& conditions,
                            const BlockOptions& block_options, const RunnerOptions& options,
                            const std::function<void(Block&)>& after_block) {
  RunnerResult result;
  const auto start = Clock::now();
  AnswerStore store(options.store, result.answers, result.control_distance);
  const std::vector<const Condition*> order = full_text_first(conditions);
  BlockQueue({blocks, source, target, order, block_options, options, after_block}, store, result)
      .run();
  store.sync();
  if (options.store.rank > 0) {
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
