// SourceStore: the source's caches of training items. They do not depend on the projector, so they
// are read once and kept between epochs, in memory or in a file, or read anew for every batch.
//
// Kept ones are made a fixed block of items at a time, whatever batch asks first: then a run that
// was resumed computes the same bits as one that was not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kvlingua/base/mapped_files.h"
#include "kvlingua/bridge/fusion.h"
#include "kvlingua/model/causal_lm.h"
#include "trainers/c2c/fusion_items.h"

namespace kvlingua {

class SourceStore {
 public:
  enum class Keep { kNone, kMemory, kDisk };
  // `auto`: kept in memory when the items are read more than once and take a quarter of the
  // machine's memory at most, else not kept.
  static Keep choose(const std::string& option, const CausalLM& source,
                     const std::vector<FusionItem>& items, bool several_epochs,
                     bool with_answer = false);

  // `file`: where kDisk keeps them; made anew, and removed at the end.
  // with_answer: the source reads the last section too.
  SourceStore(const CausalLM& source, const std::vector<FusionItem>& items, Keep keep,
              std::filesystem::path file = {}, bool with_answer = false);
  ~SourceStore();
  SourceStore(const SourceStore&) = delete;
  SourceStore& operator=(const SourceStore&) = delete;

  // The source's cache of what it reads of `batch`, which holds these items.
  KvCache cache(const std::vector<int64_t>& items, const FusionBatch& batch);
  int64_t bytes() const;  // that kept ones take in all

 private:
  void read_block(int64_t item);
  at::Tensor room(int64_t item) const;  // [2, L, H, tokens, D] of a kept item

  const CausalLM* source_;
  const std::vector<FusionItem>* items_;
  Keep keep_;
  std::filesystem::path file_;
  bool with_answer_ = false;
  std::vector<int64_t> order_, place_;  // items sorted by pattern and length; where each stands
  std::vector<int64_t> offset_;         // [items + 1] numbers before each
  at::Tensor mapped_;                   // kDisk: the file's numbers
  std::unique_ptr<MappedFile> registered_;
  std::vector<at::Tensor> kept_;  // undefined until read
};

}  // namespace kvlingua
