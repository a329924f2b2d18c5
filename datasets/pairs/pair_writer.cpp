#include "datasets/pairs/pair_writer.h"

#include <c10/util/ParallelGuard.h>

#include <optional>
#include <utility>

#include "kvlingua/base/clock.h"
#include "kvlingua/base/error.h"
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
  nlohmann::json quantisation;

  OpenShard(const std::filesystem::path& path, int64_t index, const PairSetInfo& info,
            const ShardSizes& expected)
      : file(path), writer(file.temporary_path(), index, info, expected) {}
};

PairWriter::PairWriter(const PairWriterOptions& options, PairManifest manifest)
    : options_(options), manifest_(std::move(manifest)), thread_([this] { run(); }) {}

PairWriter::~PairWriter() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = abandon_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void PairWriter::begin_shard(int64_t index, const ShardSizes& expected) {
  push({[this, index, expected] {
    shard_ = std::make_unique<OpenShard>(options_.directory / shard_file_name(index), index,
                                         manifest_.info, expected);
  }});
}

void PairWriter::append(EncodedBatch batch) {
  const int64_t bytes = batch.source.bytes() + batch.target.bytes();
  auto shared =
      std::make_shared<EncodedBatch>(std::move(batch));  // std::function wants what can be copied
  append(bytes, [shared](ShardWriter& shard) {
    shard.append(*shared);
    return shared->quantisation;
  });
}

void PairWriter::append(int64_t bytes, std::function<nlohmann::json(ShardWriter&)> write) {
  push({[this, write = std::move(write)] {
          const Timed timed(mutex_, times_.rows);
          nlohmann::json quantisation = write(shard_->writer);
          if (shard_->quantisation.is_null()) shard_->quantisation = std::move(quantisation);
        },
        bytes});
}

void PairWriter::end_shard() {
  push({[this] { publish(); }});
}

void PairWriter::publish() {
  const Timed timed(mutex_, times_.publish);
  ShardEntry entry = shard_->writer.finish();
  entry.sha256 = sha256_file(shard_->file.temporary_path());
  entry.bytes = static_cast<int64_t>(std::filesystem::file_size(shard_->file.temporary_path()));
  entry.quantisation = shard_->quantisation;
  shard_->file.commit();
  shard_.reset();
  manifest_.shards.insert_or_assign(entry.index, entry);
  save_pair_manifest(options_.directory, options_.manifest_file, manifest_);
  const std::lock_guard lock(mutex_);
  ++published_;
  published_bytes_ += entry.bytes;
}

void PairWriter::push(Task task) {
  std::unique_lock lock(mutex_);
  const double start = wall_seconds();
  changed_.wait(lock, [&] {
    return failure_ || queued_bytes_ == 0 || queued_bytes_ + task.bytes <= options_.queue_bytes;
  });
  wait_seconds_ += wall_seconds() - start;
  if (failure_) rethrow();
  queued_bytes_ += task.bytes;
  queue_.push_back(std::move(task));
  lock.unlock();
  changed_.notify_all();
}

void PairWriter::rethrow() { std::rethrow_exception(failure_); }

void PairWriter::finish() {
  std::unique_lock lock(mutex_);
  const double start = wall_seconds();
  changed_.wait(lock, [&] { return failure_ || (queue_.empty() && !working_); });
  wait_seconds_ += wall_seconds() - start;
  if (failure_) rethrow();
}

void PairWriter::run() {
  // The processors belong to prefill: what is encoded here uses this thread alone.
  const c10::ParallelGuard sequential(true);
  while (true) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closing_ || !queue_.empty(); });
      if (abandon_ || queue_.empty()) break;
      task = std::move(queue_.front());
      queue_.pop_front();
      working_ = true;
    }
    std::exception_ptr failure;
    try {
      task.work();
    } catch (...) {
      failure = std::current_exception();
    }
    task.work = {};  // frees the batch before its room is given away
    {
      const std::lock_guard lock(mutex_);
      queued_bytes_ -= task.bytes;
      working_ = false;
      if (failure) failure_ = failure;
    }
    changed_.notify_all();
    if (failure) break;
  }
  shard_.reset();
}

double PairWriter::wait_seconds() const {
  const std::lock_guard lock(mutex_);
  return wait_seconds_;
}
WriterTimes PairWriter::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}
int64_t PairWriter::published_shards() const {
  const std::lock_guard lock(mutex_);
  return published_;
}
int64_t PairWriter::published_bytes() const {
  const std::lock_guard lock(mutex_);
  return published_bytes_;
}

}  // namespace kvlingua
