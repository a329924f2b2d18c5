// Sequential generation keeps one model in memory at a time: the source's rows wait on disk until
// the target has read the same batches.
//
// One raw file a shard under .stage/: per batch keys, values (and scales) in storage type, in the
// plan's order, which gives their sizes. Listed in a manifest with hashes, so an interrupted first
// half is not done again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "datasets/pairs/pair_codec.h"
#include "datasets/pairs/pair_schema.h"

namespace kvlingua {

class SourceStage {
 public:
  // `rank`: its own manifest. Throws Error (kInput) when the stage belongs to another recipe.
  SourceStage(const std::filesystem::path& directory, int64_t rank, const PairSetInfo& info);
  ~SourceStage();

  bool has(int64_t shard) const;  // whole, and its hash is right
  void begin(int64_t shard);
  void append(const StoredRows& rows);
  void publish(const nlohmann::json& quantisation);

  void open(int64_t shard);
  StoredRows read(int64_t rows);  // the next batch
  nlohmann::json quantisation() const;
  // The shard is published: its stage is not needed any more.
  void remove(int64_t shard);
  // Removes the folder when it is empty.
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlingua
