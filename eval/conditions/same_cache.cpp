#include "eval/conditions/same_cache.h"

namespace kvlingua {

namespace {

class SameCache : public Condition {
 public:
  SameCache()
      : Condition("same_cache",
                  "The target's own cache of the context (read after its own prefix, without the "
                  "question) is injected where it was "
                  "made: must equal full_text token for token.") {}
  Given give(Block& block, size_t i) const override {
    return after_span(block, i, block.own(i), "own:" + block.item(i).probe->context);
  }
};

}  // namespace

std::unique_ptr<Condition> make_same_cache() { return std::make_unique<SameCache>(); }

}  // namespace kvlingua
