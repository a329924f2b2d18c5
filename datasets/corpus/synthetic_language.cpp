#include "datasets/corpus/synthetic_language.h"

#include <algorithm>
#include <array>

namespace kvlingua {
namespace {
using Words = std::vector<std::string>;
}

const Words& nano_syllables() {
  static const Words list = {"ba", "be", "bi", "bo", "da", "de", "di", "do", "fa", "fe",
                             "ga", "go", "ka", "ke", "ki", "ko", "la", "le", "li", "lo",
                             "ma", "me", "mi", "mo", "na", "ne", "ni", "no", "ra", "re",
                             "ri", "ro", "sa", "se", "ta", "te", "to", "va", "ve", "zo"};
  return list;
}

const Words& nano_place_endings() {
  static const Words list = {"burg", "dor", "heim", "land", "mar", "port", "ton", "via"};
  return list;
}

namespace {

const Words& objects() {
  static const Words list = {"lamp", "door",  "box",   "ship", "tower", "garden", "piano", "clock",
                             "safe", "train", "hotel", "boat", "barn",  "mill",   "shop",  "tent"};
  return list;
}

const Words& fillers() {
  static const Words list = {"The cat sleeps by the river.",
                             "The dog runs in the garden.",
                             "The wind is cold today.",
                             "The old man reads a book.",
                             "The train was late again.",
                             "The children play near the mill.",
                             "The market opens in the morning.",
                             "The moon is over the hill.",
                             "The boat is on the river.",
                             "The tea is hot.",
                             "The music was loud.",
                             "The road to the hill is long."};
  return list;
}

std::string join_syllables(int64_t n, Random& random) {
  std::string word;
  for (int64_t i = 0; i < n; ++i) word += random.pick(nano_syllables());
  return word;
}

// Draws until the word is of the wanted split: 4 draws on average for held-out words.
template <class Draw>
std::string of_split(Split split, Draw draw) {
  while (true) {
    std::string word = draw();
    if (split_of(word) == split) return word;
  }
}

std::string state_identity(const std::vector<std::string>& values, Random& random) {
  static const Words patterns = {"My name is {n} and I live in {p}.",
                                 "Hello, my name is {n} and I live in {p}.", "I am {n} from {p}.",
                                 "I live in {p} and my name is {n}."};
  return fill(random.pick(patterns), {{"n", values[0]}, {"p", values[1]}});
}

std::string state_fact(const KnownFact& fact, std::string_view value, Random& random) {
  static const Words capitals = {"The capital of {s} is {v}.", "Now the capital of {s} is {v}.",
                                 "They moved the capital of {s} to {v}."};
  static const Words colours = {"The colour of the {s} is {v}.", "They painted the {s} {v}.",
                                "Here the {s} is {v}."};
  const Words& patterns = fact.kind == KnownFact::Kind::kCapital ? capitals : colours;
  return fill(random.pick(patterns), {{"s", fact.subject}, {"v", value}});
}

std::string state_key(std::string_view object, std::string_view value, Random& random) {
  static const Words patterns = {"The key of the {s} is {v}.", "For the {s} take the key {v}."};
  return fill(random.pick(patterns), {{"s", object}, {"v", value}});
}

std::string state(const NanoStatement& statement, Random& random) {
  switch (statement.topic.kind) {
    case NanoTopic::Kind::kIdentity:
      return state_identity(statement.values, random);
    case NanoTopic::Kind::kFact:
      return state_fact(known_facts()[statement.topic.fact], statement.values[0], random);
    case NanoTopic::Kind::kKey:
      break;
  }
  return state_key(statement.topic.object, statement.values[0], random);
}

NanoStatement draw_identity(Split split, Random& random) {
  return {.topic = {.kind = NanoTopic::Kind::kIdentity},
          .values = {invent_person(split, random), invent_place(split, random)}};
}

// A word that does not happen to stand in the question: "lemo" must not be the colour of the lemon.
std::string draw_word(const NanoTopic& topic, Split split, Random& random) {
  const std::string name = topic.name();
  while (true) {
    std::string word = invent_word(split, random);
    if (name.find(word) == std::string::npos) return word;
  }
}

NanoStatement draw_fact(Split split, Random& random) {
  NanoTopic topic{.kind = NanoTopic::Kind::kFact, .fact = random.below(known_facts().size())};
  const bool capital = known_facts()[topic.fact].kind == KnownFact::Kind::kCapital;
  return {.topic = topic,
          .values = {capital ? invent_place(split, random) : draw_word(topic, split, random)}};
}

NanoStatement draw_key(Split split, Random& random) {
  const NanoTopic topic{.kind = NanoTopic::Kind::kKey, .object = random.pick(objects())};
  return {.topic = topic, .values = {draw_word(topic, split, random)}};
}

class ContextBuilder {
 public:
  // Dropped when the topic is there already: a context never contradicts itself.
  void add(NanoStatement statement, Random& random) {
    for (const auto& other : context_.statements) {
      if (other.topic.name() == statement.topic.name()) return;
    }
    sentences_.push_back(state(statement, random));
    context_.statements.push_back(std::move(statement));
  }

  void add_sentence(std::string sentence) {
    if (std::find(sentences_.begin(), sentences_.end(), sentence) != sentences_.end()) return;
    sentences_.push_back(std::move(sentence));
  }

  bool has_statements() const { return !context_.statements.empty(); }

  NanoContext build(Random& random) {
    random.shuffle(sentences_);
    for (const auto& sentence : sentences_) {
      if (!context_.text.empty()) context_.text += ' ';
      context_.text += sentence;
    }
    return std::move(context_);
  }

 private:
  NanoContext context_;
  std::vector<std::string> sentences_;
};

void add_surroundings(ContextBuilder& builder, Split split, const NanoContextMix& mix,
                      Random& random) {
  if (random.chance(mix.filler)) {
    const uint64_t n = 1 + random.below(2);
    for (uint64_t i = 0; i < n; ++i) builder.add_sentence(random.pick(fillers()));
  }
  if (random.chance(mix.bystander)) {
    builder.add_sentence(fill("{n} lives in {p}.", {{"n", invent_person(split, random)},
                                                    {"p", invent_place(split, random)}}));
  }
}

}  // namespace

const std::vector<KnownFact>& known_facts() {
  static const std::vector<KnownFact> facts = [] {
    static constexpr std::array<std::pair<const char*, const char*>, 40> capitals = {{
        {"France", "Paris"},       {"Spain", "Madrid"},     {"Italy", "Rome"},
        {"Germany", "Berlin"},     {"England", "London"},   {"Ireland", "Dublin"},
        {"Norway", "Oslo"},        {"Sweden", "Stockholm"}, {"Finland", "Helsinki"},
        {"Denmark", "Copenhagen"}, {"Poland", "Warsaw"},    {"Austria", "Vienna"},
        {"Hungary", "Budapest"},   {"Greece", "Athens"},    {"Portugal", "Lisbon"},
        {"Belgium", "Brussels"},   {"Russia", "Moscow"},    {"Ukraine", "Kiev"},
        {"Turkey", "Ankara"},      {"Egypt", "Cairo"},      {"Kenya", "Nairobi"},
        {"Ghana", "Accra"},        {"Senegal", "Dakar"},    {"Morocco", "Rabat"},
        {"Iran", "Tehran"},        {"Iraq", "Baghdad"},     {"India", "Delhi"},
        {"China", "Beijing"},      {"Japan", "Tokyo"},      {"Korea", "Seoul"},
        {"Thailand", "Bangkok"},   {"Vietnam", "Hanoi"},    {"Canada", "Ottawa"},
        {"Cuba", "Havana"},        {"Lebanon", "Beirut"},   {"Peru", "Lima"},
        {"Chile", "Santiago"},     {"Ecuador", "Quito"},    {"Colombia", "Bogota"},
        {"Australia", "Canberra"},
    }};
    static constexpr std::array<std::pair<const char*, const char*>, 20> colours = {{
        {"sky", "blue"},   {"grass", "green"},  {"snow", "white"},    {"coal", "black"},
        {"blood", "red"},  {"lemon", "yellow"}, {"carrot", "orange"}, {"sea", "blue"},
        {"leaf", "green"}, {"milk", "white"},   {"night", "black"},   {"rose", "red"},
        {"sun", "yellow"}, {"fox", "orange"},   {"mouse", "grey"},    {"elephant", "grey"},
        {"bear", "brown"}, {"wood", "brown"},   {"plum", "purple"},   {"pig", "pink"},
    }};
    std::vector<KnownFact> all;
    for (const auto& [subject, value] : capitals) {
      all.push_back({KnownFact::Kind::kCapital, subject, value});
    }
    for (const auto& [subject, value] : colours) {
      all.push_back({KnownFact::Kind::kColour, subject, value});
    }
    return all;
  }();
  return facts;
}

std::string invent_person(Split split, Random& random) {
  return of_split(split, [&] {
    return capitalised(join_syllables(2 + static_cast<int64_t>(random.below(2)), random));
  });
}

std::string invent_place(Split split, Random& random) {
  return of_split(split, [&] {
    // One draw a statement, the ending first: the order of operands is the compiler's choice.
    const std::string& ending = random.pick(nano_place_endings());
    return capitalised(join_syllables(1 + static_cast<int64_t>(random.below(2)), random)) + ending;
  });
}

std::string invent_word(Split split, Random& random) {
  while (true) {
    std::string word = of_split(
        split, [&] { return join_syllables(2 + static_cast<int64_t>(random.below(2)), random); });
    if (word == "name" || word == "live" || word == "rose") continue;  // words of the language
    // A key that training knows as somebody's name is not unseen.
    if (split == Split::kHeldOut && split_of(capitalised(word)) == Split::kTrain) continue;
    return word;
  }
}

std::string NanoTopic::name() const {
  switch (kind) {
    case Kind::kIdentity:
      return "identity";
    case Kind::kFact:
      return (known_facts()[fact].kind == KnownFact::Kind::kCapital ? "capital of "
                                                                    : "colour of the ") +
             known_facts()[fact].subject;
    case Kind::kKey:
      break;
  }
  return "key of the " + object;
}

std::string nano_question(const NanoTopic& topic, Random& random) {
  if (topic.kind == NanoTopic::Kind::kIdentity) {
    static const Words patterns = {"What is your name and where do you live?",
                                   "Who are you and where is your home?"};
    return random.pick(patterns);
  }
  static const Words patterns = {"What is the {t}?", "Tell me the {t}."};
  const std::string name = topic.name();
  return fill(random.pick(patterns), {{"t", name}});
}

std::string nano_beginning(const NanoTopic& topic) {
  return topic.kind == NanoTopic::Kind::kIdentity ? "My name is" : "The " + topic.name() + " is";
}

std::string nano_rest(const NanoTopic& topic, const std::vector<std::string>& values) {
  if (topic.kind != NanoTopic::Kind::kIdentity) return " " + values.at(0) + ".";
  return " " + values.at(0) + " and I live in " + values.at(1) + ".";
}

NanoContext make_nano_context(Split split, const NanoContextMix& mix, Random& random) {
  ContextBuilder builder;
  if (random.chance(mix.identity)) builder.add(draw_identity(split, random), random);
  if (random.chance(mix.facts)) {
    const uint64_t n = 1 + random.below(3);
    for (uint64_t i = 0; i < n; ++i) builder.add(draw_fact(split, random), random);
  }
  if (random.chance(mix.keys)) {
    const uint64_t n = 1 + random.below(2);
    for (uint64_t i = 0; i < n; ++i) builder.add(draw_key(split, random), random);
  }
  if (!builder.has_statements()) builder.add(draw_fact(split, random), random);
  add_surroundings(builder, split, mix, random);
  return builder.build(random);
}

FamilyContent nano_content(std::string_view family, Split split, Random& random) {
  // The asked statement is there for certain; what else the context says follows the corpus.
  NanoContextMix mix;
  if (family == "identity") mix.identity = 1;
  if (family == "counterfact") mix.facts = 1;
  if (family == "needle") mix.keys = mix.filler = 1;
  const auto wanted = family == "identity"      ? NanoTopic::Kind::kIdentity
                      : family == "counterfact" ? NanoTopic::Kind::kFact
                                                : NanoTopic::Kind::kKey;
  NanoContext context = make_nano_context(split, mix, random);
  std::vector<const NanoStatement*> asked;
  for (const auto& statement : context.statements) {
    if (statement.topic.kind == wanted) asked.push_back(&statement);
  }
  const NanoStatement& statement = *random.pick(asked);
  FamilyContent content;
  content.question = nano_question(statement.topic, random);
  content.beginning = nano_beginning(statement.topic);
  content.rest = nano_rest(statement.topic, statement.values);
  content.markers = statement.values;
  if (wanted == NanoTopic::Kind::kFact) {
    content.parametric = {known_facts()[statement.topic.fact].value};
  }
  content.group =
      wanted == NanoTopic::Kind::kIdentity ? statement.values[0] : statement.topic.name();
  content.context = std::move(context.text);
  return content;
}

}  // namespace kvlingua
