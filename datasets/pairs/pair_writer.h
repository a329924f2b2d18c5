// PairWriter: a thread that turns encoded batches into published shards, so that writing overlaps
// prefill.
//
// A shard is written under a temporary name, closed, hashed, flushed, renamed and its folder
// flushed; then the manifest is replaced. After that a sample counts as acknowledged; before it, a
// killed run makes the shard again. Nothing is ever appended to a published shard.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "datasets/pairs/pair_manifest.h"
#include "datasets/pairs/pair_shard.h"

namespace kvlingua {

struct PairWriterOptions {
  std::filesystem::path directory;
  std::string manifest_file{kManifestFile};  // or rank_manifest_name(r)
  int64_t queue_bytes = int64_t{64}
                        << 20;  // batches waiting to be written; one batch is always let in
};

// Processor time of the writer's thread.
struct WriterTimes {
  double rows = 0.0;     // out of caches, looking for NaN, handing to the system
  double publish = 0.0;  // hashing, flushing, the manifest
};

class PairWriter {
 public:
  // `manifest`: what this process' manifest file already lists; it is written with every shard
  // added.
  PairWriter(const PairWriterOptions& options, PairManifest manifest);
  // Without finish(): gives up the open shard.
  ~PairWriter();
  PairWriter(const PairWriter&) = delete;
  PairWriter& operator=(const PairWriter&) = delete;

  // Called in this order for each shard. They wait while the queue is full, and throw what the
  // thread failed with.
  void begin_shard(int64_t index, const ShardSizes& expected);
  void append(EncodedBatch batch);
  // `write` runs on the writer's thread: it may wait for a device's copy, or encode, and appends to
  // the shard; what it returns is the shard's measured storage error, unless null. `bytes`: what it
  // keeps alive.
  void append(int64_t bytes, std::function<nlohmann::json(ShardWriter&)> write);
  void end_shard();
  // Waits until everything is published.
  void finish();

  // Seconds the callers have waited; what the thread has done.
  double wait_seconds() const;
  WriterTimes times() const;
  // Shards published by this writer so far, and their bytes.
  int64_t published_shards() const;
  int64_t published_bytes() const;

 private:
  struct Task {
    std::function<void()> work;
    int64_t bytes = 0;
  };
  void push(Task task);
  void run();
  void publish();
  [[noreturn]] void rethrow();

  PairWriterOptions options_;
  PairManifest manifest_;
  struct OpenShard;
  std::unique_ptr<OpenShard> shard_;  // the thread's

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> queue_;
  int64_t queued_bytes_ = 0;
  bool working_ = false, closing_ = false, abandon_ = false;
  std::exception_ptr failure_;
  double wait_seconds_ = 0.0;
  WriterTimes times_;
  int64_t published_ = 0, published_bytes_ = 0;
  std::thread thread_;  // last: starts when all else is there
};

}  // namespace kvlingua
