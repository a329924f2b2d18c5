#include "eval/conditions/text.h"

namespace kvlingua {

namespace {

class Baseline : public Condition {
 public:
  Baseline() : Condition("baseline", "The target reads the question alone: the floor.") {}
  Given give(Block& block, size_t i) const override { return as_text(block, i, {}); }
};

class FullText : public Condition {
 public:
  FullText()
      : Condition("full_text",
                  "The target reads the context itself, then the question: the ceiling.") {}
  Given give(Block& block, size_t i) const override {
    return as_text(block, i, block.item(i).span);
  }
};

class WrongText : public Condition {
 public:
  WrongText()
      : Condition("wrong_text",
                  "The target reads another item's context as text: some context, the wrong one.") {
  }
  Given give(Block& block, size_t i) const override {
    return as_text(block, i, block.item(block.partner(i)).span);
  }
};

class TextMessage : public Condition {
 public:
  TextMessage()
      : Condition("text_message",
                  "The source is asked to write down what its context says; the target reads that "
                  "message in the context's place.") {}
  Given give(Block& block, size_t i) const override {
    const std::string& message = block.message(i);
    Given given = as_text(block, i, block.target().encode(message));
    given.bytes_moved = static_cast<int64_t>(message.size());
    return given;
  }
};

}  // namespace

std::unique_ptr<Condition> make_baseline() { return std::make_unique<Baseline>(); }
std::unique_ptr<Condition> make_full_text() { return std::make_unique<FullText>(); }
std::unique_ptr<Condition> make_wrong_text() { return std::make_unique<WrongText>(); }
std::unique_ptr<Condition> make_text_message() { return std::make_unique<TextMessage>(); }

}  // namespace kvlingua
