// Identity transfer: a persona's cache goes from the source through a projector into the target,
// which never reads the persona's text. Does the target then write as that persona would?
//
// A persona's wording stands at the beginning of the user's turn, a prompt follows it, and the
// target answers, greedily, under each condition of the evaluation:
//   full_text      it reads the wording itself: how it writes as that persona (the ceiling)
//   translated     it is given the source's cache of the wording through the projector
//   wrong_persona  the translated cache of another persona: the same answers, held against this one
//   neutral_topic  the translated cache of a text that is of no persona
//   noise          a cache with the translated ones' mean and deviation
//   baseline       the prompt alone
// A classifier over words (text_classifier.h) made of the full_text answers says whom an answer
// sounds like; an answer is asked of the classifier that saw neither its wording nor its group of
// prompts. Beside it: whether a persona's style marker occurs.
//
// Self-recognition: which persona's label the target finds most likely to go on with ("I am ..."),
// less how likely it finds it without any cache.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/items/reader.h"
#include "eval/personas/design.h"
#include "kvlingua/projector/projector.h"
#include "kvlingua/text/alignment.h"

namespace kvlingua {

struct TransferInput {
  const Reader& source;
  const Reader& target;
  const Projector* projector = nullptr;  // null: self-recognition of the target's own caches alone
  AlignmentKind alignment = AlignmentKind::kLastChar;
  const IdentityDesign& design;
  const SystemTexts& texts;
  const IdentityOptions& options;
  std::filesystem::path file;  // where answers are kept; empty: nowhere
  std::string fingerprint;     // of models, projector and recipe; texts and options are added here
  bool resume = true;
};

// One answer. `label`: the persona that was meant.
struct WrittenAnswer {
  int64_t label = 0, wording = 0, group = 0, prompt = 0;
  std::string text;
};
// Under one condition, which label the target finds most likely for a text: predicted by question.
struct Recognised {
  int64_t label = 0, wording = 0, question = 0, predicted = -1;
};
struct TransferResult {
  std::map<std::string, std::vector<WrittenAnswer>> written;  // by condition
  std::map<std::string, std::vector<Recognised>> recognised;
  std::vector<std::string> failed;  // texts that do not fit, one line each
};
// Throws Error: kTerminated and kInterrupted when asked to stop (finished batches are kept).
TransferResult run_transfer(const TransferInput& input);

// {rows: {condition: {estimate, low, high, markers, n}}, above: {control: ...}, share_of_gap,
// verdict, reason}: "transferred" when the translated answers' accuracy lies above every control's,
// each interval of the difference wholly above zero; "none" when one of them lies wholly below
// options.margin; "not measurable" when full_text itself is not above the controls.
nlohmann::ordered_json judge_transfer(
    const std::map<std::string, std::vector<WrittenAnswer>>& written, const IdentityDesign& design,
    const IdentityOptions& options);
// {rows: {condition: {estimate, low, high, n, verdict}}, chance}: three-valued against chance.
nlohmann::ordered_json judge_recognition(
    const std::map<std::string, std::vector<Recognised>>& recognised, const IdentityDesign& design,
    const IdentityOptions& options);

}  // namespace kvlingua
