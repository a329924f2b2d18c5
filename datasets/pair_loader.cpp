#include "datasets/pair_loader.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/ParallelGuard.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "datasets/pair_group.h"
#include "kvlingua/base/clock.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

using nlohmann::json;

std::string to_string(LoadUnit unit) { return unit == LoadUnit::kRows ? "rows" : "sequences"; }
std::string to_string(LoadUse use) {
  return use == LoadUse::kTrain ? "train" : use == LoadUse::kValidation ? "validation" : "all";
}

// Copies batches to a GPU on a stream of its own. On the CPU it does nothing.
class DeviceCopier {
 public:
  explicit DeviceCopier(at::Device device) : device_(device) {
    if (!device.is_cpu())
      stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, false);
  }
  bool pinned() const { return stream_.has_value(); }
  // Makes the copy stream current for the calling thread.
  std::optional<c10::StreamGuard> enter() const {
    if (!stream_) return std::nullopt;
    return std::optional<c10::StreamGuard>(std::in_place, *stream_);
  }
  at::Tensor move(const at::Tensor& t) const {
    return t.defined() && stream_ ? t.to(device_, /*non_blocking=*/true) : t;
  }
  std::shared_ptr<c10::Event> record() const {
    if (!stream_) return nullptr;
    auto event = std::make_shared<c10::Event>(device_.type());
    event->record(*stream_);
    return event;
  }

 private:
  at::Device device_;
  std::optional<c10::Stream> stream_;
};

// What the consumer's stream must wait for before it touches a batch.
struct Ready {
  PairBatch batch;
  std::shared_ptr<c10::Event> copied;
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
  DeviceCopier copier;

  // What next() has returned so far.
  int64_t epoch = 0, index = 0;
  double waited = 0.0;

  // The pipeline: one thread reads groups, one gathers batches.
  std::mutex mutex;
  std::condition_variable changed;
  struct QueuedGroup {
    int64_t epoch;
    size_t number;
    std::shared_ptr<const LoadedGroup> group;
  };
  std::deque<QueuedGroup> groups;
  std::deque<Ready> ready;
  bool stop = false, ended = false;
  std::exception_ptr failure;
  std::thread group_thread, batch_thread;

  Impl(PairReader r, const PairLoaderOptions& o)
      : reader(std::move(r)), options(o), copier(o.device) {}
  ~Impl() { halt(); }

  void prepare();
  void start();
  void halt();
  void read_groups(int64_t from_epoch, int64_t from_item);
  void make_batches(int64_t from_epoch, int64_t from_index);
  std::shared_ptr<const LoadedGroup> await_group(int64_t of_epoch, size_t number);
  PairBatch make_batch(const std::vector<ItemRef>& refs) const;
  RowBatch finish_rows(GatheredRows gathered) const;
  SequenceBatch finish_sequences(GatheredSequences gathered) const;
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
  stop = ended = false;
  group_thread = std::thread([this, e = epoch, item = first_item(index)] {
    try {
      read_groups(e, item);
    } catch (...) {
      fail();
    }
  });
  batch_thread = std::thread([this, e = epoch, i = index] {
    try {
      make_batches(e, i);
    } catch (...) {
      fail();
    }
  });
}

void PairLoader::Impl::halt() {
  {
    const std::lock_guard lock(mutex);
    stop = true;
  }
  changed.notify_all();
  if (group_thread.joinable()) group_thread.join();
  if (batch_thread.joinable()) batch_thread.join();
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

// The group asked for; groups before it are let go.
std::shared_ptr<const LoadedGroup> PairLoader::Impl::await_group(int64_t of_epoch, size_t number) {
  std::unique_lock lock(mutex);
  while (true) {
    while (!groups.empty() &&
           std::pair(groups.front().epoch, groups.front().number) < std::pair(of_epoch, number)) {
      groups.pop_front();
      changed.notify_all();
    }
    if (!groups.empty()) return groups.front().group;
    if (stop || failure) return nullptr;
    changed.wait(lock);
  }
}

void PairLoader::Impl::make_batches(int64_t e, int64_t i) {
  const c10::ParallelGuard sequential(true);  // the processors belong to the consumer
  const auto guard = copier.enter();
  for (; !over(e); ++e, i = 0) {
    const std::vector<PairGroup> plan = epoch_groups(blocks, order, e);
    for (; i < batches; ++i) {
      const int64_t begin = first_item(i), end = std::min(begin + options.batch_size, items);
      std::vector<std::shared_ptr<const LoadedGroup>> held;
      std::vector<ItemRef> refs;
      for (int64_t item = begin; item < end;) {
        const size_t g = group_of(plan, item);
        auto group = await_group(e, g);
        if (!group) return;
        const int64_t until = std::min(end, plan[g].first_item + plan[g].items);
        for (; item < until; ++item)
          refs.push_back(
              {group.get(), group->order[static_cast<size_t>(item - plan[g].first_item)]});
        held.push_back(std::move(group));
      }
      Ready made{make_batch(refs), nullptr};
      made.batch.epoch = e;
      made.batch.index = i;
      made.copied = copier.record();
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] {
        return stop || static_cast<int64_t>(ready.size()) < std::max<int64_t>(options.prefetch, 1);
      });
      if (stop) return;
      ready.push_back(std::move(made));
      changed.notify_all();
    }
  }
  const std::lock_guard lock(mutex);
  ended = true;
  changed.notify_all();
}

PairBatch PairLoader::Impl::make_batch(const std::vector<ItemRef>& refs) const {
  PairBatch batch;
  if (options.unit == LoadUnit::kRows) {
    batch.rows = finish_rows(gather_rows(reader, refs, copier.pinned(), options.previous_tokens));
  } else {
    batch.sequences =
        finish_sequences(gather_sequences(reader, refs, copier.pinned(), options.pad_left));
  }
  return batch;
}

RowBatch PairLoader::Impl::finish_rows(GatheredRows g) const {
  const auto decode = [&](const at::Tensor& t, const at::Tensor& scales) {
    return decode_rows(copier.move(t), copier.move(scales), options.dtype);
  };
  RowBatch out = std::move(g.rest);
  out.source_keys = decode(g.source.keys, g.source.key_scales);
  out.source_values = decode(g.source.values, g.source.value_scales);
  if (options.previous_tokens > 0) {
    const auto beside = [&](at::Tensor& rows, const at::Tensor& t, const at::Tensor& scales) {
      const at::Tensor before = decode(t, scales);
      rows = at::cat({rows, before.view({rows.size(0), -1, rows.size(2), rows.size(3)})}, 1);
    };
    beside(out.source_keys, g.previous.keys, g.previous.key_scales);
    beside(out.source_values, g.previous.values, g.previous.value_scales);
  }
  out.target_keys = decode(g.target.keys, g.target.key_scales);
  out.target_values = decode(g.target.values, g.target.value_scales);
  out.source_positions = copier.move(out.source_positions);
  out.target_positions = copier.move(out.target_positions);
  if (out.target_queries.defined())
    out.target_queries = copier.move(out.target_queries).to(options.dtype);
  if (out.target_attention_outputs.defined())
    out.target_attention_outputs = copier.move(out.target_attention_outputs).to(options.dtype);
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
        arrange(decode_rows(copier.move(rows.keys), copier.move(rows.key_scales), options.dtype),
                tokens),
        arrange(
            decode_rows(copier.move(rows.values), copier.move(rows.value_scales), options.dtype),
            tokens),
        copier.move(positions), std::nullopt, padded ? copier.move(mask) : at::Tensor());
  };
  out.source = cache(g.source, g.source_tokens, g.source_positions, g.source_mask);
  out.target = cache(g.target, g.target_tokens, g.target_positions, g.target_mask);
  out.alignment = copier.move(out.alignment);
  for (at::Tensor* t : {&out.target_queries, &out.target_attention_outputs}) {
    if (t->defined()) *t = arrange(copier.move(*t).to(options.dtype), g.target_tokens);
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
  Ready made;
  {
    std::unique_lock lock(s.mutex);
    const double start = wall_seconds();
    s.changed.wait(lock, [&] { return !s.ready.empty() || s.failure || s.ended; });
    s.waited += wall_seconds() - start;
    if (s.ready.empty()) {
      if (s.failure) std::rethrow_exception(s.failure);
      return std::nullopt;
    }
    made = std::move(s.ready.front());
    s.ready.pop_front();
  }
  s.changed.notify_all();
  if (made.copied) {
    const c10::impl::VirtualGuardImpl device(s.options.device.type());
    const c10::Stream stream = device.getStream(s.options.device);
    made.copied->block(stream);
    for_each_tensor(made.batch, [&](const at::Tensor& t) {
      if (!t.is_cpu()) device.recordDataPtrOnStream(t.storage().data_ptr(), stream);
    });
  }
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
    epoch = saved.at("epoch").get<int64_t>();
    item = saved.at("item").get<int64_t>();
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
