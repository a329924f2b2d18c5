// Condition: one way in which a context reaches the target. Each is a small file of this folder;
// list.h names them all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/block.h"
#include "kvlingua/cache/kv_cache.h"

namespace kvlingua {

// What the target is given for one item.
struct Given {
  KvCache
      past;  // one row, rotated as the target's keys are; empty: nothing stands before the tokens
  std::vector<int64_t> tokens;  // what it then reads itself; never empty
  int64_t position = 0;         // of the first of them
  std::string
      made_of;  // what the past was made of: equal for equal pasts (duplicates are found by it)
  int64_t bytes_moved = 0;  // of what had to be handed to the target beyond its own prompt
};

class Condition {
 public:
  Condition(std::string name, std::string definition)
      : name_(std::move(name)), definition_(std::move(definition)) {}
  virtual ~Condition() = default;
  const std::string& name() const { return name_; }
  // One or two sentences, printed in the report.
  const std::string& definition() const { return definition_; }
  // Whether the target's continuation may be compared with full_text's token by token in the chat
  // layout (raw may not).
  virtual bool chat_layout() const { return true; }
  // Controls: the span's cache that this one must differ from, whatever it says; null for the
  // others.
  virtual const KvCache* must_differ_from(Block&, size_t) const { return nullptr; }
  virtual Given give(Block& block, size_t i) const = 0;

 private:
  std::string name_, definition_;
};

// The usual form: the target's prefix, then a foreign span, then the rest read by the target
// itself.
Given after_span(const Block& block, size_t i, const KvCache& span, std::string made_of);
// The same as plain text: nothing stands before, everything is read.
Given as_text(const Block& block, size_t i, const std::vector<int64_t>& span);

}  // namespace kvlingua
