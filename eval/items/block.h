// Block: a fixed few dozen items whose contexts each model reads once, whatever the number of
// conditions.
//
// Which items share a block, and who is whose partner (shuffled, wrong_text), follows from the
// items' ids and the seed alone, never from the batch size or the order of a file. Caches are made
// when first asked for and dropped with the block.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "eval/items/item.h"
#include "eval/items/reader.h"
#include "kvlingua/projector/projector.h"

namespace kvlingua {

struct BlockOptions {
  int64_t batch_size = 32;
  uint64_t seed = 0;
  int64_t raw_tokens = 20;      // the source prompt's continuation in `raw`
  int64_t message_tokens = 64;  // of text_message
};

// Mean and deviation of un-rotated caches in each layer, head and channel: [2 (keys, values), L, H,
// D] float32.
struct CacheMoments {
  at::Tensor mean, deviation;
};

class Block {
 public:
  Block(std::vector<Item> items, const Reader& source, const Reader& target,
        const BlockOptions& options);

  size_t size() const { return items_.size(); }
  const Item& item(size_t i) const { return items_[i]; }
  const Reader& source() const { return *source_; }
  const Reader& target() const { return *target_; }
  const BlockOptions& options() const { return options_; }
  // Another item with other markers, a fixed derangement; i itself when no other item differs.
  size_t partner(size_t i) const { return partners_[i]; }
  uint64_t seed_of(size_t i) const;

  // One row each, without the prefix. The target's own cache of the span, standing after its
  // prefix; the source's, rotated as it read.
  const KvCache& own(size_t i);
  const KvCache& read_by_source(size_t i);
  // Prefix and span as the target reads them when the text begins at position `shift`: keys rotated
  // there.
  const KvCache& own_read_at(int64_t shift, size_t i);
  // The source's cache through a projector, standing after the target's prefix. `name` is the key
  // it is kept under.
  const KvCache& translated(const std::string& name, const Projector& projector, size_t i);
  // Caches that item i is given when `projector` is null: its own.
  const KvCache& injected(const std::string& name, const Projector* projector, size_t i);
  // Over all tokens of the block's injected caches. What noise draws from and partial transfer
  // fills with.
  const CacheMoments& moments(const std::string& name, const Projector* projector);
  // Positions of `tokens` tokens after the target's prefix, [1, tokens].
  at::Tensor span_positions(int64_t tokens) const;

  // What the target itself goes on with after the bare context (no template), greedily: `raw`'s
  // source side.
  const std::vector<int64_t>& continuation(size_t i);
  // The bare context and that continuation as a generating program leaves them in its cache (the
  // last token it chose was never read), and that cache.
  std::vector<int64_t> raw_tokens(size_t i);
  const KvCache& raw(size_t i);
  // What the source writes when it is asked to pass its context on.
  const std::string& message(size_t i);

 private:
  std::vector<KvCache> translate_together(const Projector& projector, size_t begin, size_t end);
  KvCache translate_alone(const Projector& projector, size_t k);

  std::vector<Item> items_;
  const Reader* source_;
  const Reader* target_;
  BlockOptions options_;
  std::vector<size_t> partners_;
  std::vector<KvCache> own_, source_caches_, raw_;
  std::map<int64_t, std::vector<KvCache>> shifted_;
  std::map<std::string, std::vector<KvCache>> translated_;
  std::map<std::string, CacheMoments> moments_;
  std::vector<std::vector<int64_t>> continuations_;
  std::vector<std::string> messages_;
};

// Sorts items by a hash of their ids and cuts them into blocks of at most `size`; a last block of
// one joins the one before.
std::vector<std::vector<Item>> make_blocks(std::vector<Item> items, uint64_t seed,
                                           size_t size = 32);

}  // namespace kvlingua
