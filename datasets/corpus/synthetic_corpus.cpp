#include "datasets/corpus/synthetic_corpus.h"

#include <algorithm>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

constexpr std::string_view kTurnStart = "<|im_start|>";
constexpr std::string_view kTurnEnd = "<|im_end|>";

const std::vector<std::string>& objects_without_keys() {
  static const std::vector<std::string> list = {"lamp",  "door", "box",  "ship",
                                                "tower", "safe", "shop", "tent"};
  return list;
}

SyntheticTurn make_turn(const NanoTopic& topic, const std::string& rest, const std::string& whole,
                        bool completion, Random& random) {
  if (completion) return {.beginning = nano_beginning(topic), .answer = rest};
  return {.question = nano_question(topic, random), .answer = whole};
}

// The context says it.
SyntheticTurn stated_turn(const NanoStatement& statement, bool completion, Random& random) {
  const std::string rest = nano_rest(statement.topic, statement.values);
  return make_turn(statement.topic, rest, nano_beginning(statement.topic) + rest, completion,
                   random);
}

// The context does not say it: known by heart, or not known.
SyntheticTurn unstated_turn(const NanoTopic& topic, bool completion, Random& random) {
  if (topic.kind == NanoTopic::Kind::kFact) {
    const std::string rest = nano_rest(topic, {known_facts()[topic.fact].value});
    return make_turn(topic, rest, nano_beginning(topic) + rest, completion, random);
  }
  return make_turn(topic, std::string(kNanoUnknownRest), std::string(kNanoUnknown), completion,
                   random);
}

NanoTopic draw_unstated(Random& random) {
  if (random.chance(.65)) {
    return {.kind = NanoTopic::Kind::kFact, .fact = random.below(known_facts().size())};
  }
  if (random.chance(.5)) return {.kind = NanoTopic::Kind::kIdentity};
  return {.kind = NanoTopic::Kind::kKey, .object = random.pick(objects_without_keys())};
}

SyntheticDialogue echo(Random& random) {
  std::string words;
  const uint64_t n = 2 + random.below(4);
  for (uint64_t i = 0; i < n; ++i) {
    words += ' ';
    switch (random.below(3)) {
      case 0:
        words += invent_person(Split::kTrain, random);
        break;
      case 1:
        words += invent_place(Split::kTrain, random);
        break;
      default:
        words += invent_word(Split::kTrain, random);
    }
  }
  SyntheticDialogue dialogue;
  dialogue.turns = {{.question = "Repeat:" + words + ".", .answer = "Again:" + words + "."}};
  return dialogue;
}

bool in_completion_form(const SyntheticTurn& turn) { return turn.question.empty(); }

std::string system_turn(Random& random) {
  static const std::vector<std::string> list = {"You are a helpful assistant.",
                                                "Answer the question.", "You read and answer."};
  return random.pick(list);
}

}  // namespace

SyntheticDialogue SyntheticCorpus::dialogue(uint64_t index) const {
  Random random(mix(mix(seed_, hash_name("dialogue")), index));
  if (random.chance(mix_.echo)) return echo(random);
  SyntheticDialogue dialogue;
  if (random.chance(mix_.system)) dialogue.system = system_turn(random);
  NanoContext context;
  if (random.chance(mix_.context)) {
    context = make_nano_context(Split::kTrain, mix_.statements, random);
  }
  dialogue.context = context.text;

  const bool completion = random.chance(mix_.completion);
  const uint64_t turns = 1 + random.below(3);
  std::vector<std::string> asked;
  random.shuffle(context.statements);
  size_t next_statement = 0;
  for (uint64_t i = 0; i < turns; ++i) {
    const bool in_completion = completion && i == 0;
    const bool stated =
        next_statement < context.statements.size() && !random.chance(mix_.off_context);
    if (stated) {
      const NanoStatement& statement = context.statements[next_statement++];
      asked.push_back(statement.topic.name());
      dialogue.turns.push_back(stated_turn(statement, in_completion, random));
      continue;
    }
    const NanoTopic topic = draw_unstated(random);
    const std::string name = topic.name();
    const bool clash =
        std::find(asked.begin(), asked.end(), name) != asked.end() ||
        std::any_of(context.statements.begin(), context.statements.end(),
                    [&](const NanoStatement& statement) { return statement.topic.name() == name; });
    if (clash) continue;
    asked.push_back(name);
    dialogue.turns.push_back(unstated_turn(topic, in_completion, random));
  }
  if (dialogue.turns.empty()) return this->dialogue(mix(index, 1));  // every draw clashed: rare
  // A question without a context may come with or without the line break that would follow one.
  SyntheticTurn& first = dialogue.turns.front();
  if (dialogue.context.empty() && !in_completion_form(first) && random.chance(.5)) {
    first.question.insert(0, "\n");
  }
  return dialogue;
}

std::string SyntheticCorpus::context(uint64_t index, Split split) const {
  Random random(mix(mix(seed_, hash_name("context")), index));
  return make_nano_context(split, mix_.statements, random).text;
}

std::vector<WeightedText> render(const SyntheticDialogue& dialogue, const ChatFrame& frame,
                                 const LossWeights& weights) {
  const size_t user = frame.before.rfind(kTurnStart);
  if (user == std::string::npos || !frame.after.starts_with(kTurnEnd)) {
    throw Error({.code = ExitCode::kInput,
                 .where = "built-in corpus",
                 .what = "unsupported chat template",
                 .got = printable(frame.before + "..." + frame.after),
                 .expected = "a ChatML template (<|im_start|> ... <|im_end|>)"});
  }
  const std::string next_user = "\n" + frame.before.substr(user);
  std::vector<WeightedText> out;
  const auto add = [&](std::string text, float weight) {
    if (!text.empty()) out.push_back({std::move(text), weight});
  };
  for (size_t i = 0; i < dialogue.turns.size(); ++i) {
    const SyntheticTurn& turn = dialogue.turns[i];
    const std::string& context = i == 0 ? dialogue.context : std::string();
    add(i == 0 ? frame.before : next_user, weights.question);
    add(context, weights.context);
    const bool line = !in_completion_form(turn) && !context.empty();
    add((line ? "\n" : "") + turn.question + frame.after + turn.beginning, weights.question);
    add(turn.answer + std::string(kTurnEnd), weights.answer);
  }
  return out;
}

}  // namespace kvlingua
