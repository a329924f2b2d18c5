#include "datasets/pairs/pair_writer.h"

#include <c10/util/ParallelGuard.h>

#include <algorithm>
#include <utility>

#include "kvlingua/base/clock.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

// Adds the processor time of its life to `sum`.
class Timed {
 public:
  Timed(std::mutex& mutex, double& sum) : mutex_(mutex), sum_(sum) {}
  ~Timed() {
    const std::lock_guard lock(mutex_);
    sum_ += thread_cpu_seconds() - start_;
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  std::mutex& mutex_;
  double& sum_;
  double start_ = thread_cpu_seconds();
};

}  // namespace

// A shard being written: destroying it without commit removes the temporary file.
struct PairWriter::OpenShard {
  AtomicFile file;
  ShardWriter writer;
  ShardEntry entry;  // once it is closed
  nlohmann::json quantisation;

  OpenShard(const std::filesystem::path& path, int64_t index, const PairSetInfo& info,
            const ShardSizes& expected)
      : file(path), writer(file.temporary_path(), index, info, expected) {}
};

PairWriter::PairWriter(const PairWriterOptions& options, PairManifest manifest)
    : options_(options), manifest_(std::move(manifest)) {
  options_.lanes = std::max<int64_t>(options_.lanes, 1);
  for (int64_t i = 0; i < options_.lanes; ++i) lanes_.push_back(std::make_unique<Lane>());
  for (auto& lane : lanes_) lane->thread = std::thread([this, &lane = *lane] { write(lane); });
  for (int64_t i = 0; i < options_.lanes; ++i) publishers_.emplace_back([this] { publish_all(); });
}

PairWriter::~PairWriter() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (auto& lane : lanes_) lane->thread.join();
  for (std::thread& publisher : publishers_) publisher.join();
}

// ---- the caller's side ----

PairWriter::Lane& PairWriter::lane_of(int64_t index) {
  for (auto& lane : lanes_)
    if (lane->index == index) return *lane;
  throw Error({.where = "pair writer",
               .what = index < 0 ? "more shards are open than there are lanes"
                                 : cat("shard ", index, " is not open")});
}

void PairWriter::begin_shard(int64_t index, const ShardSizes& expected) {
  Lane& lane = lane_of(-1);
  lane.index = index;
  push(lane, {[this, index, expected](Lane& mine) {
         mine.shard = std::make_unique<OpenShard>(options_.directory / shard_file_name(index),
                                                  index, manifest_.info, expected);
       }});
}

void PairWriter::append(int64_t index, EncodedBatch batch) {
  const int64_t bytes = batch.source.bytes() + batch.target.bytes();
  auto shared =
      std::make_shared<EncodedBatch>(std::move(batch));  // std::function wants what can be copied
  append(index, bytes, [shared](ShardWriter& shard) {
    shard.append(*shared);
    return shared->quantisation;
  });
}

void PairWriter::append(int64_t index, int64_t bytes,
                        std::function<nlohmann::json(ShardWriter&)> write) {
  push(lane_of(index), {[this, write = std::move(write)](Lane& mine) {
                          const Timed timed(mutex_, times_.rows);
                          nlohmann::json quantisation = write(mine.shard->writer);
                          if (mine.shard->quantisation.is_null())
                            mine.shard->quantisation = std::move(quantisation);
                        },
                        std::max<int64_t>(bytes, 1)});
}

void PairWriter::end_shard(int64_t index) {
  Lane& lane = lane_of(index);
  push(lane, {[this](Lane& mine) { hand_over(mine); }});
  lane.index = -1;
}

void PairWriter::wait_until(std::unique_lock<std::mutex>& lock,
                            const std::function<bool()>& holds) {
  const double start = wall_seconds();
  changed_.wait(lock, [&] { return failure_ || holds(); });
  wait_seconds_ += wall_seconds() - start;
  if (failure_) std::rethrow_exception(failure_);
}

void PairWriter::push(Lane& lane, Task task) {
  std::unique_lock lock(mutex_);
  wait_until(lock, [&] {
    return task.bytes == 0 || queued_batches_ < options_.lanes ||
           queued_bytes_ + task.bytes <= options_.queue_bytes;
  });
  queued_bytes_ += task.bytes;
  queued_batches_ += task.bytes > 0;
  lane.queue.push_back(std::move(task));
  lock.unlock();
  changed_.notify_all();
}

bool PairWriter::idle() const {
  return finished_.empty() && publishing_ == 0 &&
         std::all_of(lanes_.begin(), lanes_.end(),
                     [](const auto& lane) { return lane->queue.empty() && !lane->working; });
}

void PairWriter::finish() {
  std::unique_lock lock(mutex_);
  wait_until(lock, [&] { return idle(); });
}

// ---- the threads ----

bool PairWriter::tried(const std::function<void()>& work) {
  try {
    work();
    return true;
  } catch (...) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
  return false;
}

void PairWriter::write(Lane& lane) {
  // The processors belong to prefill: what is encoded here uses this thread alone.
  const c10::ParallelGuard sequential(true);
  while (true) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closing_ || failure_ || !lane.queue.empty(); });
      if (closing_ || failure_) break;
      task = std::move(lane.queue.front());
      lane.queue.pop_front();
      lane.working = true;
    }
    tried([&] { task.work(lane); });
    task.work = {};  // frees the batch before its room is given away
    {
      const std::lock_guard lock(mutex_);
      queued_bytes_ -= task.bytes;
      queued_batches_ -= task.bytes > 0;
      lane.working = false;
    }
    changed_.notify_all();
  }
  lane.shard.reset();
}

// The lane is free for its next shard while this one is hashed; but no more of them wait than there
// are threads to do it.
void PairWriter::hand_over(Lane& lane) {
  {
    const Timed timed(mutex_, times_.publish);
    lane.shard->entry = lane.shard->writer.finish();
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return closing_ || failure_ || static_cast<int64_t>(finished_.size()) < options_.lanes;
  });
  if (closing_ || failure_) return;
  finished_.push_back(std::move(lane.shard));
  lock.unlock();
  changed_.notify_all();
}

void PairWriter::publish_all() {
  while (true) {
    std::unique_ptr<OpenShard> shard;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closing_ || failure_ || !finished_.empty(); });
      if (failure_ || finished_.empty())
        return;  // what is written is published, even when giving up
      shard = std::move(finished_.front());
      finished_.pop_front();
      ++publishing_;
    }
    tried([&] { publish(*shard); });
    shard.reset();
    {
      const std::lock_guard lock(mutex_);
      --publishing_;
    }
    changed_.notify_all();
  }
}

void PairWriter::publish(OpenShard& shard) {
  const Timed timed(mutex_, times_.publish);
  ShardEntry& entry = shard.entry;
  entry.sha256 = sha256_file(shard.file.temporary_path());
  entry.bytes = static_cast<int64_t>(std::filesystem::file_size(shard.file.temporary_path()));
  entry.quantisation = shard.quantisation;
  shard.file.commit();
  log_debug(cat("shard ", entry.file, ": ", entry.samples, " samples, ",
                bytes_text(static_cast<double>(entry.bytes)), ", sha256 ", entry.sha256));
  const std::lock_guard lock(manifest_mutex_);
  manifest_.shards.insert_or_assign(entry.index, entry);
  save_pair_manifest(options_.directory, options_.manifest_file, manifest_);
}

double PairWriter::wait_seconds() const {
  const std::lock_guard lock(mutex_);
  return wait_seconds_;
}
WriterTimes PairWriter::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

}  // namespace kvlingua
