#include "trainers/nano_lm/lm_questions.h"

#include "datasets/corpus/families.h"
#include "datasets/corpus/synthetic_language.h"

namespace kvlingua {
namespace {

using Questions = std::vector<LmQuestion>;

std::vector<FamilyItem> items_of(const std::string& family, bool completion, int64_t items,
                                 uint64_t seed) {
  return make_family({.family = family, .completion = completion, .n = items, .seed = seed});
}

Questions with_context(const std::string& family, bool completion, int64_t items, uint64_t seed) {
  Questions questions;
  for (auto& item : items_of(family, completion, items, seed)) {
    questions.push_back({item.context, item.prompt, completion, item.markers, item.answer});
  }
  return questions;
}

Questions baseline(const std::string& family, bool completion, int64_t items, uint64_t seed) {
  Questions questions;
  for (auto& item : items_of(family, completion, items, seed)) {
    LmQuestion question{"", item.prompt, completion, {}, {}};
    if (item.parametric.empty()) {
      question.answer = completion ? kNanoUnknownRest : kNanoUnknown;
      question.markers = {question.answer};
    } else {
      question.answer =
          (completion ? "" : "The " + item.group + " is") + (" " + item.parametric[0] + ".");
      question.markers = item.parametric;
    }
    questions.push_back(std::move(question));
  }
  return questions;
}

LmQuestion fact_question(size_t fact, bool completion, Random& random) {
  const NanoTopic topic{.kind = NanoTopic::Kind::kFact, .fact = fact};
  const std::string& value = known_facts()[fact].value;
  const std::string rest = nano_rest(topic, {value});
  if (completion) return {"", nano_beginning(topic), true, {value}, rest};
  return {"", nano_question(topic, random), false, {value}, nano_beginning(topic) + rest};
}

Questions facts(bool completion, Random& random) {
  Questions questions;
  for (size_t fact = 0; fact < known_facts().size(); ++fact) {
    questions.push_back(fact_question(fact, completion, random));
  }
  return questions;
}

// A context about other things; what it said about this very fact would be the answer.
Questions facts_after_context(bool completion, int64_t items, Random& random) {
  Questions questions;
  for (int64_t i = 0; i < items; ++i) {
    const size_t fact = static_cast<size_t>(i) % known_facts().size();
    LmQuestion question = fact_question(fact, completion, random);
    do {
      question.context = make_nano_context(Split::kHeldOut, {}, random).text;
    } while (question.context.find(known_facts()[fact].subject) != std::string::npos);
    questions.push_back(std::move(question));
  }
  return questions;
}

}  // namespace

std::vector<int64_t> LmQuestion::prompt_ids(const Tokenizer& tokenizer,
                                            const ChatFrame& frame) const {
  const std::string line = context.empty() ? "" : "\n";
  const std::string after = completion ? frame.after + prompt : line + prompt + frame.after;
  std::vector<int64_t> ids;
  for (const std::string& piece : {frame.before, context, after}) {
    const Encoding encoding = tokenizer.encode(piece, false);
    ids.insert(ids.end(), encoding.ids.begin(), encoding.ids.end());
  }
  return ids;
}

std::vector<LmQuestionSet> lm_question_sets(int64_t items, uint64_t seed) {
  std::vector<LmQuestionSet> sets;
  Random random(mix(seed, hash_name("facts")));
  for (bool completion : {false, true}) {
    const std::string form = completion ? "/completion" : "/question";
    for (const auto& name : family_names())
      sets.push_back({name + form, with_context(name, completion, items, seed)});
    sets.push_back({"facts" + form, facts(completion, random)});
    sets.push_back(
        {"facts after a context" + form, facts_after_context(completion, items, random)});
    for (const auto& name : family_names()) {
      sets.push_back({"baseline " + name + form, baseline(name, completion, items, seed)});
    }
  }
  return sets;
}

}  // namespace kvlingua
