#include "datasets/loading/pair_loader.h"

#include <ATen/ATen.h>
#include <c10/util/ParallelGuard.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "datasets/loading/pair_group.h"
#include "kvlingua/base/clock.h"
#include "kvlingua/base/error.h"
#include "kvlingua/cache/side_stream.h"
#include "kvlingua/io/json_number.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

using nlohmann::json;

std::string to_string(LoadUnit unit) { return unit == LoadUnit::kRows ? "rows" : "sequences"; }
std::string to_string(LoadUse use) {
  return use == LoadUse::kTrain ? "train" : use == LoadUse::kValidation ? "validation" : "all";
}

// What the consumer's stream must wait for before it touches a batch.
struct Ready {
  PairBatch batch;
  SideStream::Mark copied;
  std::exception_ptr failure;  // why there is no batch
};

template <class F>
void for_each_tensor(PairBatch& b, F&& f) {
  for (at::Tensor* t :
       {&b.rows.source_keys, &b.rows.source_values, &b.rows.target_keys, &b.rows.target_values,
        &b.rows.source_positions, &b.rows.target_positions, &b.rows.target_queries,
        &b.rows.target_attention_outputs, &b.sequences.alignment, &b.sequences.target_queries,
        &b.sequences.target_attention_outputs}) {
    if (t->defined()) f(*t);
  }
  for (const KvCache* c : {&b.sequences.source, &b.sequences.target}) {
    if (c->empty()) continue;
    f(c->keys());
    f(c->values());
    f(c->positions());
    if (c->mask().defined()) f(c->mask());
  }
}

}  // namespace

struct PairLoader::Impl {
  PairReader reader;
  PairLoaderOptions options;
  std::vector<PairBlock> blocks;
  OrderOptions order;
  std::string set_hash;
  int64_t items = 0;    // of an epoch, all ranks
  int64_t batches = 0;  // of an epoch, this rank
  SideStream copies;    // to a GPU

  // What next() has returned so far.
  int64_t epoch = 0, index = 0;
  double waited = 0.0;

  // The pipeline: one thread reads groups, the workers gather batches. Batches are numbered from
  // the place where the stream was started, handed to the workers in turn and out in order.
  std::mutex mutex;
  std::condition_variable changed;
  struct Task {
    int64_t number, epoch, index;
    std::vector<std::shared_ptr<const LoadedGroup>> held;  // what the references point into
    std::vector<ItemRef> refs;
  };
  struct QueuedGroup {
    int64_t epoch;
    size_t number;
    std::shared_ptr<const LoadedGroup> group;
  };
  std::deque<QueuedGroup> groups;
  std::mutex handing_out;  // held by the worker that waits for the groups of the next batch
  int64_t task_number = 0, task_epoch = 0, task_index = 0;  // the next to be handed out
  int64_t planned_epoch = -1;  // of `plan`, which only who hands out touches
  std::vector<PairGroup> plan;
  int64_t taken = 0;  // batches that next() has taken
  std::map<int64_t, Ready> ready;
  int64_t working = 0;  // workers that have not ended
  bool stop = false;
  std::exception_ptr failure;
  std::thread group_thread;
  std::vector<std::thread> workers;

  Impl(PairReader r, const PairLoaderOptions& o)
      : reader(std::move(r)), options(o), copies(o.device) {}
  ~Impl() { halt(); }

  void prepare();
  void start();
  void halt();
  void read_groups(int64_t from_epoch, int64_t from_item);
  void work();
  std::optional<Task> next_task();
  std::shared_ptr<const LoadedGroup> group_of_task(int64_t of_epoch, size_t number);
  Ready make(const Task& task) const;
  std::optional<Ready> await_batch();
  // Batches that may be in hand at once.
  int64_t ahead() const { return std::max<int64_t>({1, options.prefetch, options.workers}); }
  PairBatch make_batch(const std::vector<ItemRef>& refs) const;
  RowBatch finish_rows(GatheredRows gathered) const;
  SequenceBatch finish_sequences(GatheredSequences gathered) const;
  at::Tensor move(const at::Tensor& t) const {
    return t.defined() && copies.active() ? t.to(options.device, /*non_blocking=*/true) : t;
  }
  bool over(int64_t of_epoch) const { return options.epochs > 0 && of_epoch >= options.epochs; }
  int64_t first_item(int64_t of_index) const {
    return (of_index * options.world + options.rank) * options.batch_size;
  }
  void fail() {
    const std::lock_guard lock(mutex);
    if (!failure) failure = std::current_exception();
    changed.notify_all();
  }
};

void PairLoader::Impl::prepare() {
  const int64_t buffer = std::max<int64_t>(options.buffer_bytes, 3 << 10);
  // Three groups are in memory: the one in use, the one a batch may straddle into, and the one
  // being read.
  order = {.shuffle = options.shuffle, .seed = options.seed, .group_bytes = buffer / 3};
  blocks = make_blocks(reader, options.unit, options.use,
                       std::min<int64_t>(4 << 20, std::max<int64_t>(buffer / 24, 1 << 10)));
  for (const PairBlock& block : blocks) items += block.items;
  const int64_t step = options.batch_size * options.world;
  batches = options.drop_last ? items / step : (items - first_item(0) + step - 1) / step;
  if (batches < 1 || options.batch_size < 1) {
    throw Error({.code = ExitCode::kInput,
                 .where = reader.directory().string(),
                 .what = cat("too few ", to_string(options.unit), " for one batch (",
                             to_string(options.use), ")"),
                 .got = cat(items),
                 .expected = cat("at least ", step, " (batch ", options.batch_size, " x ",
                                 options.world, " ranks)"),
                 .remedy = "lower the batch size, or generate more pairs"});
  }
  Sha256 hash;
  for (const auto& [number, shard] : reader.manifest().shards) hash.update(shard.sha256);
  set_hash = hash.hex();
}

void PairLoader::Impl::start() {
  stop = false;
  task_number = taken = 0;
  task_epoch = epoch;
  task_index = index;
  working = options.workers;
  if (options.workers == 0) return;
  group_thread = std::thread([this, e = epoch, item = first_item(index)] {
    try {
      read_groups(e, item);
    } catch (...) {
      fail();
    }
  });
  for (int64_t i = 0; i < options.workers; ++i) {
    workers.emplace_back([this] {
      try {
        work();
      } catch (...) {
        fail();
      }
      const std::lock_guard lock(mutex);
      --working;
      changed.notify_all();
    });
  }
}

void PairLoader::Impl::halt() {
  {
    const std::lock_guard lock(mutex);
    stop = true;
  }
  changed.notify_all();
  if (group_thread.joinable()) group_thread.join();
  for (std::thread& worker : workers) worker.join();
  workers.clear();
  groups.clear();
  ready.clear();
  failure = nullptr;
}

void PairLoader::Impl::read_groups(int64_t e, int64_t item) {
  for (; !over(e); ++e, item = first_item(0)) {
    const std::vector<PairGroup> plan = epoch_groups(blocks, order, e);
    // Items after the last whole batch are not needed.
    const int64_t end = options.drop_last ? batches * options.batch_size * options.world : items;
    for (size_t g = group_of(plan, std::min(item, end - 1));
         g < plan.size() && plan[g].first_item < end; ++g) {
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return stop || groups.size() < 2; });
        if (stop) return;
      }
      auto loaded = load_group(reader, blocks, plan[g], options);
      const std::lock_guard lock(mutex);
      groups.push_back({e, g, std::move(loaded)});
      changed.notify_all();
    }
  }
}

// The group asked for; groups before it are let go. Without workers it is read here. Null when the
// loader stops.
std::shared_ptr<const LoadedGroup> PairLoader::Impl::group_of_task(int64_t of_epoch,
                                                                   size_t number) {
  std::unique_lock lock(mutex);
  while (true) {
    while (!groups.empty() &&
           std::pair(groups.front().epoch, groups.front().number) < std::pair(of_epoch, number)) {
      groups.pop_front();
      changed.notify_all();
    }
    if (!groups.empty()) return groups.front().group;
    if (stop || failure) return nullptr;
    if (options.workers == 0) {
      groups.push_back({of_epoch, number, load_group(reader, blocks, plan[number], options)});
    } else {
      changed.wait(lock);
    }
  }
}

// The next batch to be made, its groups at hand; none at the end of the stream or when it stops.
std::optional<PairLoader::Impl::Task> PairLoader::Impl::next_task() {
  const std::lock_guard turn(handing_out);
  if (over(task_epoch)) return std::nullopt;
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return stop || task_number < taken + ahead(); });
    if (stop) return std::nullopt;
  }
  if (planned_epoch != task_epoch) plan = epoch_groups(blocks, order, planned_epoch = task_epoch);
  Task task{task_number, task_epoch, task_index, {}, {}};
  const int64_t begin = first_item(task.index), end = std::min(begin + options.batch_size, items);
  for (int64_t item = begin; item < end;) {
    const size_t g = group_of(plan, item);
    auto group = group_of_task(task.epoch, g);
    if (!group) return std::nullopt;
    const int64_t until = std::min(end, plan[g].first_item + plan[g].items);
    for (; item < until; ++item)
      task.refs.push_back(
          {group.get(), group->order[static_cast<size_t>(item - plan[g].first_item)]});
    task.held.push_back(std::move(group));
  }
  ++task_number;
  if (++task_index == batches) {
    ++task_epoch;
    task_index = 0;
  }
  return task;
}

Ready PairLoader::Impl::make(const Task& task) const {
  const c10::ParallelGuard sequential(true);  // the processors belong to the consumer
  const auto guard = copies.enter();
  Ready made;
  made.batch = make_batch(task.refs);
  made.batch.epoch = task.epoch;
  made.batch.index = task.index;
  made.copied = copies.mark();
  return made;
}

void PairLoader::Impl::work() {
  while (const std::optional<Task> task = next_task()) {
    Ready made;
    try {
      made = make(*task);
    } catch (...) {
      made.failure = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    ready.emplace(task->number, std::move(made));
    changed.notify_all();
  }
}

// Where the consumer takes the next batch; none at the end of the stream.
std::optional<Ready> PairLoader::Impl::await_batch() {
  if (options.workers == 0) {
    const std::optional<Task> task = next_task();
    if (!task) return std::nullopt;
    ++taken;
    return make(*task);
  }
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return ready.contains(taken) || working == 0; });
  const auto found = ready.find(taken);
  if (found == ready.end()) {
    if (failure) std::rethrow_exception(failure);
    return std::nullopt;
  }
  if (found->second.failure) std::rethrow_exception(found->second.failure);
  Ready made = std::move(found->second);
  ready.erase(found);
  ++taken;
  changed.notify_all();
  return made;
}

PairBatch PairLoader::Impl::make_batch(const std::vector<ItemRef>& refs) const {
  PairBatch batch;
  if (options.unit == LoadUnit::kRows) {
    batch.rows = finish_rows(gather_rows(reader, refs, copies.active(), options.previous_tokens));
  } else {
    batch.sequences =
        finish_sequences(gather_sequences(reader, refs, copies.active(), options.pad_left));
  }
  return batch;
}

RowBatch PairLoader::Impl::finish_rows(GatheredRows g) const {
  const auto decode = [&](const at::Tensor& t, const at::Tensor& scales) {
    return decode_rows(move(t), move(scales), options.dtype);
  };
  RowBatch out = std::move(g.rest);
  out.source_keys = decode(g.source.keys, g.source.key_scales);
  out.source_values = decode(g.source.values, g.source.value_scales);
  if (options.previous_tokens.tokens > 0) {
    const auto beside = [&](at::Tensor& rows, const at::Tensor& t, const at::Tensor& scales) {
      const at::Tensor before = decode(t, scales);
      rows = at::cat({rows, before.view({rows.size(0), -1, rows.size(2), rows.size(3)})}, 1);
    };
    beside(out.source_keys, g.previous.keys, g.previous.key_scales);
    beside(out.source_values, g.previous.values, g.previous.value_scales);
  }
  out.target_keys = decode(g.target.keys, g.target.key_scales);
  out.target_values = decode(g.target.values, g.target.value_scales);
  out.source_positions = move(out.source_positions);
  out.target_positions = move(out.target_positions);
  if (out.target_queries.defined()) out.target_queries = move(out.target_queries).to(options.dtype);
  if (out.target_attention_outputs.defined())
    out.target_attention_outputs = move(out.target_attention_outputs).to(options.dtype);
  return out;
}

SequenceBatch PairLoader::Impl::finish_sequences(GatheredSequences g) const {
  SequenceBatch out = std::move(g.rest);
  const int64_t batch = out.alignment.size(0);
  // [B * T, L, H, D] -> [L, B, H, T, D]
  const auto arrange = [&](const at::Tensor& rows, int64_t tokens) {
    return rows.view({batch, tokens, rows.size(1), rows.size(2), rows.size(3)})
        .permute({2, 0, 3, 1, 4})
        .contiguous();
  };
  const auto cache = [&](const StoredRows& rows, int64_t tokens, const at::Tensor& positions,
                         const at::Tensor& mask) {
    const bool padded = !mask.all().item<bool>();
    return KvCache(
        arrange(decode_rows(move(rows.keys), move(rows.key_scales), options.dtype), tokens),
        arrange(decode_rows(move(rows.values), move(rows.value_scales), options.dtype), tokens),
        move(positions), std::nullopt, padded ? move(mask) : at::Tensor());
  };
  out.source = cache(g.source, g.source_tokens, g.source_positions, g.source_mask);
  out.target = cache(g.target, g.target_tokens, g.target_positions, g.target_mask);
  out.alignment = move(out.alignment);
  for (at::Tensor* t : {&out.target_queries, &out.target_attention_outputs}) {
    if (t->defined()) *t = arrange(move(*t).to(options.dtype), g.target_tokens);
  }
  return out;
}

PairLoader::PairLoader(PairReader reader, const PairLoaderOptions& options)
    : impl_(std::make_unique<Impl>(std::move(reader), options)) {
  impl_->prepare();
  impl_->start();
}

PairLoader::~PairLoader() = default;

const PairSetInfo& PairLoader::info() const { return impl_->reader.info(); }
int64_t PairLoader::batches_per_epoch() const { return impl_->batches; }
int64_t PairLoader::items_per_epoch() const { return impl_->items; }
double PairLoader::wait_seconds() const { return impl_->waited; }

std::optional<PairBatch> PairLoader::next() {
  Impl& s = *impl_;
  const double start = wall_seconds();
  std::optional<Ready> taken = s.await_batch();
  s.waited += wall_seconds() - start;
  if (!taken) return std::nullopt;
  Ready& made = *taken;
  s.copies.await(made.copied);
  for_each_tensor(made.batch, [&](const at::Tensor& t) { s.copies.use(t); });
  s.epoch = made.batch.epoch;
  s.index = made.batch.index + 1;
  if (s.index == s.batches) {
    ++s.epoch;
    s.index = 0;
  }
  return std::move(made.batch);
}

json PairLoader::state() const {
  const Impl& s = *impl_;
  return {{"version", 1},
          {"set", s.set_hash},
          {"unit", to_string(s.options.unit)},
          {"use", to_string(s.options.use)},
          {"shuffle", s.options.shuffle},
          {"seed", s.options.seed},
          {"items_per_step", s.options.batch_size * s.options.world},
          {"buffer_bytes", s.options.buffer_bytes},
          {"drop_last", s.options.drop_last},
          {"epoch", s.epoch},
          {"item", s.index * s.options.batch_size * s.options.world}};
}

void PairLoader::restore(const json& saved) {
  Impl& s = *impl_;
  json mine = state(), theirs = saved;
  for (json* j : {&mine, &theirs}) {
    if (!j->is_object()) continue;
    j->erase("epoch");
    j->erase("item");
  }
  if (const auto difference = first_difference(mine, theirs)) {
    throw Error({.code = ExitCode::kInput,
                 .where = cat(s.reader.directory().string(), ": loader position"),
                 .what = cat("saved with another ",
                             difference->field.empty() ? "state" : difference->field),
                 .got = difference->second,
                 .expected = difference->first,
                 .remedy = "resume with the same pair set and options, or start the stage again"});
  }
  int64_t epoch = 0, item = 0;
  try {
    epoch = whole_number(saved.at("epoch"));
    item = whole_number(saved.at("item"));
  } catch (const json::exception&) {
    epoch = -1;
  }
  const int64_t step = s.options.batch_size * s.options.world;
  if (epoch < 0 || item < 0 || item % step != 0 || item / step >= s.batches) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = cat(s.reader.directory().string(), ": loader position"),
                 .what = "not a position of this stream",
                 .got = printable(saved.dump())});
  }
  s.halt();
  s.epoch = epoch;
  s.index = item / step;
  s.start();
}

}  // namespace kvlingua
