// Condition: one way in which a context reaches the target. Each is a small file of this folder;
// list.cpp names them all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/items/block.h"
#include "kvlingua/cache/kv_cache.h"

namespace kvlingua {

// What the target is given for one item: `before`, then either `past` or `span`, then `tokens`.
struct Given {
  // One row that stands first for every item (the target's prefix); null: nothing does.
  const KvCache* before = nullptr;
  // One row behind it, rotated as the target's keys are; may be empty.
  KvCache past;
  // Tokens that the target reads itself behind `before`, in a step of their own, as an injected
  // span would stand there: so a text is read in the same steps as a cache, and both may be
  // compared bit for bit. Not beside `past`.
  std::vector<int64_t> span;
  std::vector<int64_t> tokens;  // what it then reads itself; never empty
  int64_t position = 0;         // of the first of them
  // What the past was made of: equal for equal pasts (duplicates are found by it).
  std::string made_of;
  int64_t bytes_moved = 0;  // of what had to be handed to the target beyond its own prompt

  int64_t past_tokens() const {
    return (before != nullptr && !before->empty() ? before->tokens() : 0) +
           (past.empty() ? 0 : past.tokens()) + static_cast<int64_t>(span.size());
  }
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
// The same as text: the target reads the span itself, then the rest.
// Without a span the question stands alone.
Given as_text(const Block& block, size_t i, const std::vector<int64_t>& span);

}  // namespace kvlingua
