// CheckpointStore: the checkpoints of one run, written so that a crash at any moment leaves the old
// ones whole.
//
//   checkpoints/<run>/step-000123/    one checkpoint (checkpoint.h); appears by a rename
//   checkpoints/<run>/latest          link to the newest
//   checkpoints/<run>/ridge, ...      link to the last checkpoint of each finished stage
//   checkpoints/<run>/.lock           held while a process trains
// Where a file system has no symbolic links, `latest` and the stages are small files that name the
// folder (follow_link).
//
// Order of a write: temporary folder, files, fsync each, manifest, rename, fsync the folder, links,
// then old checkpoints go. Kept: the newest `keep_last`, the best `keep_best` by validation of the
// stage under way, and the last of every finished stage. Knows nothing of how training works.
#pragma once

#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "kvlingua/config/checkpoint_options.h"
#include "kvlingua/io/file_lock.h"

namespace kvlingua {

class CheckpointStore {
 public:
  // Creates the run's folder, takes its lock, removes what a killed run left half-written and
  // points the links where they belong.
  // Throws Error: kInput when the folder cannot be written, kFailed when another process trains
  // there.
  CheckpointStore(std::filesystem::path run, const CheckpointOptions& options);
  ~CheckpointStore();  // waits; a write that failed by then is logged
  CheckpointStore(const CheckpointStore&) = delete;
  CheckpointStore& operator=(const CheckpointStore&) = delete;

  // Takes a copy and writes it, off this thread when options.background. Waits for the write before
  // it, and throws what that one failed with. Returns where the checkpoint will be.
  std::filesystem::path save(const Checkpoint& checkpoint);
  // Waits for the write under way. Throws Error (kDiskFull, kInput) when it failed.
  void wait();

  // Removes the checkpoints and links of these stages; of all when empty (--restart).
  void clear(const std::vector<std::string>& stages = {});
  const std::filesystem::path& run() const { return run_; }

 private:
  void write(const Checkpoint& checkpoint) const;
  void prune(const std::string& stage) const;
  void repair_links() const;

  std::filesystem::path run_;
  CheckpointOptions options_;
  FileLock lock_;
  std::future<void> pending_;
};

struct FoundCheckpoint {
  std::filesystem::path path;
  std::vector<std::string> skipped;  // one line each: what was damaged and newer
};

// The newest checkpoint of a run that verifies, with every file re-read. `stage`: only of this
// stage. None: there is no checkpoint, or none is whole (then `skipped` says why).
std::optional<FoundCheckpoint> find_checkpoint(const std::filesystem::path& run,
                                               std::vector<std::string>* skipped = nullptr,
                                               const std::string& stage = {});

// Where `latest` or a stage's name leads on a file system without symbolic links, where it is a
// small file that names the folder; any other path is itself.
std::filesystem::path follow_link(const std::filesystem::path& path);

// The folders step-NNNNNN of a run, newest first.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& run);

}  // namespace kvlingua
