// PairWriter: threads that turn encoded batches into published shards, so that writing overlaps
// prefill.
//
// Each open shard has a lane: a thread that takes rows, looks at them and writes them, batch after
// batch in the order given. A finished shard leaves its lane, is hashed, flushed and renamed by
// another thread and its folder flushed; then the manifest is replaced. After that a sample counts
// as acknowledged; before it, a killed run makes the shard again. Nothing is ever appended to a
// published shard. How many lanes there are changes no byte.
//
// HDF5 lets one thread in at a time, so lanes share what is not in it: rows, storage types, the
// look for NaN, hashes and the disk.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "datasets/pairs/pair_manifest.h"
#include "datasets/pairs/pair_shard.h"

namespace kvlingua {

struct PairWriterOptions {
  std::filesystem::path directory;
  std::string manifest_file{kManifestFile};  // or rank_manifest_name(r)
  int64_t lanes = 1;                         // shards that may be open at once
  int64_t queue_bytes = int64_t{64}
                        << 20;  // batches waiting to be written; one a lane is always let in
};

// Processor time of the writer's threads.
struct WriterTimes {
  double rows = 0.0;     // out of caches, looking for NaN, handing to the system
  double publish = 0.0;  // hashing, flushing, the manifest
};

class PairWriter {
 public:
  // `manifest`: what this process' manifest file already lists; it is written with every shard
  // added.
  PairWriter(const PairWriterOptions& options, PairManifest manifest);
  // Without finish(): gives up the open shards.
  ~PairWriter();
  PairWriter(const PairWriter&) = delete;
  PairWriter& operator=(const PairWriter&) = delete;

  int64_t lanes() const { return options_.lanes; }
  // Called in this order for each shard, by one thread. They wait while the queue is full, and
  // throw what the first of the threads failed with; the others stop then too.
  void begin_shard(int64_t index, const ShardSizes& expected);
  void append(int64_t index, EncodedBatch batch);
  // `write` runs on the lane's thread: it may wait for a device's copy, or encode, and appends to
  // the shard; what it returns is the shard's measured storage error, unless null. `bytes`: what it
  // keeps alive.
  void append(int64_t index, int64_t bytes, std::function<nlohmann::json(ShardWriter&)> write);
  void end_shard(int64_t index);
  // Waits until everything is published.
  void finish();

  // Seconds the callers have waited; what the threads have done.
  double wait_seconds() const;
  WriterTimes times() const;

 private:
  struct OpenShard;
  struct Lane;
  struct Task {
    std::function<void(Lane&)> work;
    int64_t bytes = 0;
  };
  struct Lane {
    int64_t index = -1;  // of the shard that the caller has open here; -1: none
    std::deque<Task> queue;
    bool working = false;
    std::unique_ptr<OpenShard> shard;  // the thread's
    std::thread thread;
  };
  Lane& lane_of(int64_t index);
  void push(Lane& lane, Task task);
  void write(Lane& lane);
  void publish_all();
  void publish(OpenShard& shard);
  // Runs `work`; its failure is everybody's, unless there was one before.
  bool tried(const std::function<void()>& work);
  void hand_over(Lane& lane);
  void wait_until(std::unique_lock<std::mutex>& lock, const std::function<bool()>& holds);
  bool idle() const;

  PairWriterOptions options_;
  std::mutex manifest_mutex_;
  PairManifest manifest_;

  mutable std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::deque<std::unique_ptr<OpenShard>> finished_;  // to be published
  int64_t publishing_ = 0;
  int64_t queued_batches_ = 0, queued_bytes_ = 0;
  bool closing_ = false;
  std::exception_ptr failure_;
  double wait_seconds_ = 0.0;
  WriterTimes times_;
  std::vector<std::thread> publishers_;
};

}  // namespace kvlingua
