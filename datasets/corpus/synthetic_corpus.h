// The built-in corpus: an endless, seeded stream of short dialogues in the nano language
// (synthetic_language.h).
//
// The nano models are trained on it, and pair sets can be generated from its contexts; nothing has
// to be downloaded. Every dialogue is a function of (seed, index) alone, so ranks, resumes and
// shuffles need no state. Only words of the train split occur. Layout is the one of all prompts
// (chat_template.h): before ⊕ context ⊕ "\n" + question + after, pieces tokenised apart; completion
// form: before ⊕ context ⊕ after, then the given beginning of the answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/corpus/synthetic_language.h"
#include "kvlingua/text/chat_template.h"

namespace kvlingua {

struct SyntheticTurn {
  std::string question;   // empty in completion form
  std::string beginning;  // completion form: what the answer is given to begin with
  std::string answer;     // completion form: the rest, with its leading space
};

struct SyntheticDialogue {
  std::string system;   // empty in most
  std::string context;  // may be empty: then only known facts can be answered
  std::vector<SyntheticTurn> turns;
};

struct SyntheticMix {
  double echo = .30;         // "Repeat: ...": teaches copying
  double context = .80;      // of the rest: the first turn has a context
  double completion = .25;   // of the rest: the first turn is in completion form
  double system = .15;       // has a system turn
  double off_context = .15;  // with a context: a question that it does not answer
  NanoContextMix statements;
};

// A stretch of text to be tokenised by itself, and how much its tokens count in the loss.
struct WeightedText {
  std::string text;
  float weight = 0;
};
struct LossWeights {
  float answer = 1.0F;  // with the end of the turn
  float context = .1F;
  float question = .02F;  // with all markup, and the given beginnings
};

class SyntheticCorpus {
 public:
  explicit SyntheticCorpus(uint64_t seed, SyntheticMix mix = {}) : seed_(seed), mix_(mix) {}

  SyntheticDialogue dialogue(uint64_t index) const;
  // Plain text for pair generation: a context, never empty; `split` lets evaluations take held-out
  // ones.
  std::string context(uint64_t index, Split split = Split::kTrain) const;

 private:
  uint64_t seed_;
  SyntheticMix mix_;
};

// The dialogue in a chat frame (ChatML families), every turn rendered like a first one. `frame` is
// chat_frame(family, dialogue.system). Throws Error (kInput) when the frame is not ChatML.
std::vector<WeightedText> render(const SyntheticDialogue& dialogue, const ChatFrame& frame,
                                 const LossWeights& weights = {});

}  // namespace kvlingua
