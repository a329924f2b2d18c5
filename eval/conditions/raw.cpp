#include "eval/conditions/raw.h"

#include <ATen/ATen.h>

#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

std::vector<int64_t> second_prompt(const Block& block, size_t i) {
  return block.target().tokenizer->encode(block.item(i).probe->prompt, true).ids;
}

class Raw : public Condition {
 public:
  Raw()
      : Condition("raw",
                  "Phase 2a: the target's own cache of the bare context and its own continuation "
                  "of it, no chat template; then the bare "
                  "question with its own beginning-of-text token, at the positions that follow. "
                  "Must equal raw_text token for token.") {}
  bool chat_layout() const override { return false; }
  Given give(Block& block, size_t i) const override {
    Given given;
    given.past = block.raw(i);
    given.tokens = second_prompt(block, i);
    given.position = given.past.tokens();
    given.made_of = "raw:" + block.item(i).probe->context;
    given.bytes_moved = given.past.bytes();
    return given;
  }
};

class RawText : public Condition {
 public:
  RawText() : Condition("raw_text", "The tokens of raw, read as one text: what raw must equal.") {}
  bool chat_layout() const override { return false; }
  Given give(Block& block, size_t i) const override {
    Given given;
    given.tokens = block.raw_tokens(i);
    const auto after = second_prompt(block, i);
    given.tokens.insert(given.tokens.end(), after.begin(), after.end());
    return given;
  }
};

// Prefix and context in place of the usual prefix and span, the question where it always stands.
Given pasted(Block& block, size_t i, const KvCache& past, std::string made_of) {
  Given given;
  given.past = past;
  given.tokens = block.item(i).rest;
  given.position = past.tokens();
  given.made_of = std::move(made_of);
  given.bytes_moved = past.bytes();
  return given;
}

class RawShifted : public Condition {
 public:
  RawShifted(const std::string& name, int64_t shift)
      : Condition(name,
                  cat("The target's own cache of prefix and context, read from position ", shift,
                      " on and pasted as if it began at 0, its keys not re-rotated: every distance "
                      "to the question is wrong by ",
                      shift, ".")),
        shift_(shift) {}
  Given give(Block& block, size_t i) const override {
    const KvCache& read = block.own_read_at(shift_, i);
    return pasted(block, i, read.relabelled(read.positions() - shift_),
                  cat("shifted", shift_, ":", block.item(i).probe->context));
  }

 private:
  int64_t shift_;
};

class RawRerotated : public Condition {
 public:
  RawRerotated(const std::string& name, int64_t shift)
      : Condition(name, cat("raw_shifted by ", shift,
                            " with its keys re-rotated to where they are pasted: must equal "
                            "full_text again.")),
        shift_(shift) {}
  Given give(Block& block, size_t i) const override {
    const KvCache& read = block.own_read_at(shift_, i);
    return pasted(block, i,
                  read.rotated_to(block.target().model->rope(), read.positions() - shift_),
                  cat("rerotated", shift_, ":", block.item(i).probe->context));
  }

 private:
  int64_t shift_;
};

}  // namespace

std::unique_ptr<Condition> make_raw() { return std::make_unique<Raw>(); }
std::unique_ptr<Condition> make_raw_text() { return std::make_unique<RawText>(); }
std::unique_ptr<Condition> make_raw_shifted(const std::string& name, int64_t shift) {
  return std::make_unique<RawShifted>(name, shift);
}
std::unique_ptr<Condition> make_raw_rerotated(const std::string& name, int64_t shift) {
  return std::make_unique<RawRerotated>(name, shift);
}

}  // namespace kvlingua
