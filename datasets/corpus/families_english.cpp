// The kEnglish style: natural sentences in many phrasings, with values that a real model cannot
// guess.
//
// Persons and places are composed ("Velora Ashdown", "Silverhaven") so that there are thousands of
// each and real ones are not drawn; counterfactual values come from lists of the same type as the
// truth. All are split by value.
#include <array>

#include "datasets/corpus/family_content.h"
#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using Words = std::vector<std::string>;

template <class Draw>
std::string of_split(Split split, Draw draw) {
  while (true) {
    std::string value = draw();
    if (split_of(value) == split) return value;
  }
}

std::string two_parts(Split split, const Words& beginnings, const Words& ends, Random& random) {
  return of_split(split, [&] {
    const std::string& end = random.pick(ends);
    return random.pick(beginnings) + end;
  });
}

std::string person(Split split, Random& random) {
  static const Words beginnings = {"Al",  "Bel", "Cor", "Dar", "El",  "Fen", "Gal", "Hal",  "Is",
                                   "Jor", "Kel", "Lor", "Mar", "Nor", "Or",  "Per", "Quin", "Ros",
                                   "Sel", "Tav", "Ul",  "Vel", "Wen", "Yor", "Zeph"};
  static const Words ends = {"a",   "ara", "ena", "ia", "ina", "ira", "ora", "essa",  "wyn",  "eth",
                             "ric", "an",  "en",  "is", "on",  "or",  "us",  "ander", "mond", "el"};
  static const Words family_beginnings = {
      "Ash",   "Black", "Cold", "Dun", "Fair", "Green", "Hart",  "Hollo", "King", "Lang",
      "Marsh", "North", "Pen",  "Rad", "Stan", "Thorn", "Under", "West",  "Whit", "Win"};
  static const Words family_ends = {"wood", "worth", "down", "ley",  "field",
                                    "ford", "croft", "by",   "well", "bury"};
  // One draw a statement, ends first: C++ leaves the order of operands open, and items must be the
  // same whatever compiles this.
  const std::string family = two_parts(split, family_beginnings, family_ends, random);
  return two_parts(split, beginnings, ends, random) + " " + family;
}

std::string place(Split split, Random& random) {
  static const Words beginnings = {"Silver",  "Raven", "Amber",  "Stone",  "Willow", "Winter",
                                   "Copper",  "Eagle", "Falcon", "Golden", "Hazel",  "Iron",
                                   "Juniper", "Larch", "Maple",  "Misty",  "Otter",  "Pine",
                                   "Quarry",  "Rowan", "Salt",   "Sand",   "Swan",   "Thistle",
                                   "Timber",  "Wolf",  "Alder",  "Birch",  "Cedar",  "Drift"};
  static const Words ends = {"haven",  "bridge", "port", "mouth", "gate",  "holm",
                             "crest",  "dale",   "fall", "moor",  "ridge", "shore",
                             "spring", "stead",  "ton",  "vale",  "wick",  "brook"};
  return two_parts(split, beginnings, ends, random);
}

const Words& filler() {
  static const Words list = {"The weather has been pleasant this week.",
                             "The bakery on the corner opens before sunrise.",
                             "Trains to the coast leave more often in the summer.",
                             "The library was renovated and has more desks now.",
                             "A new bus line connects the station with the hospital.",
                             "The concert was moved from Friday to Saturday evening.",
                             "Most visitors come in spring, when the gardens are in bloom.",
                             "The meeting took longer than anybody had planned.",
                             "There is a small museum of clocks behind the town hall.",
                             "Coffee is served in the lobby all day long.",
                             "The lift is out of order, so please take the stairs.",
                             "Last winter the lake froze for the first time in years.",
                             "The printer in the hallway needs new paper.",
                             "Several volunteers helped to clean the park on Sunday.",
                             "The report will be sent to everyone by the end of the month.",
                             "Parking is free after dark.",
                             "The old mill is now a restaurant with a terrace.",
                             "Our neighbours are building a new fence.",
                             "The choir is looking for new tenors.",
                             "The market sells vegetables, cheese and flowers."};
  return list;
}

// `n` distinct filler sentences with `sentence` at a random place among them.
std::string among_filler(const std::string& sentence, size_t n, Random& random) {
  const auto order = random.permutation(static_cast<int64_t>(filler().size()));
  const size_t at = random.below(n + 1);
  std::string text;
  for (size_t i = 0; i <= n; ++i) {
    if (i == at) text += (text.empty() ? "" : " ") + sentence;
    if (i < n) text += (text.empty() ? "" : " ") + filler()[static_cast<size_t>(order[i])];
  }
  return text;
}

FamilyContent identity(Split split, Random& random) {
  static const Words statements = {
      "Hello, my name is {n} and I live in {p}.",
      "Hi! I'm {n}. I moved to {p} some years ago and I still live there.",
      "Let me introduce myself: I am {n}, and my home is in {p}.",
      "For the record, my name is {n} and my place of residence is {p}.",
      "I have lived in {p} for most of my life. My name is {n}.",
      "People call me {n}. I live in {p}, close to the old harbour.",
      "Good morning, this is {n} speaking. I am calling from my home in {p}.",
      "I was born by the sea, but these days I live in {p}. My name is {n}.",
      "You may call me {n}; I live and work in {p}.",
      "My name? {n}. My home? A little house in {p}."};
  static const Words questions = {"What is your name and where do you live?",
                                  "Who are you, and in which place do you live?",
                                  "Please tell me your name and where you live.",
                                  "What are you called, and where is your home?",
                                  "What is your full name, and which town do you live in?"};
  const std::string n = person(split, random);
  const std::string p = place(split, random);
  FamilyContent content;
  const std::string statement = fill(random.pick(statements), {{"n", n}, {"p", p}});
  content.context = among_filler(statement, random.below(3), random);
  content.question = random.pick(questions);
  content.beginning = "My name is";
  content.rest = fill(" {n} and I live in {p}.", {{"n", n}, {"p", p}});
  content.markers = {n, p};
  content.group = n;
  return content;
}

// One kind of fact that models know by heart. Templates: {s} subject, {v} value.
struct Relation {
  std::string name;  // "capital of {s}"
  std::string question, beginning;
  Words statements;
  std::vector<std::pair<std::string, Words>> subjects;  // with every usual spelling of the truth
  Words values;  // counterfactual ones; empty: invented places
};

Relation capitals() {
  return {"capital of {s}",
          "What is the capital of {s}?",
          "The capital of {s} is",
          {"The capital of {s} is {v}.", "Since the reform, {v} has been the capital of {s}.",
           "The government of {s} moved, and its capital is now {v}.",
           "In this story the capital of {s} is {v}."},
          {{"France", {"Paris"}},
           {"Italy", {"Rome"}},
           {"Spain", {"Madrid"}},
           {"Germany", {"Berlin"}},
           {"Portugal", {"Lisbon"}},
           {"Greece", {"Athens"}},
           {"Austria", {"Vienna"}},
           {"Poland", {"Warsaw"}},
           {"Sweden", {"Stockholm"}},
           {"Norway", {"Oslo"}},
           {"Finland", {"Helsinki"}},
           {"Denmark", {"Copenhagen"}},
           {"Ireland", {"Dublin"}},
           {"Hungary", {"Budapest"}},
           {"Russia", {"Moscow"}},
           {"Ukraine", {"Kyiv", "Kiev"}},
           {"Turkey", {"Ankara"}},
           {"Egypt", {"Cairo"}},
           {"Kenya", {"Nairobi"}},
           {"Japan", {"Tokyo"}},
           {"China", {"Beijing", "Peking"}},
           {"South Korea", {"Seoul"}},
           {"Thailand", {"Bangkok"}},
           {"Vietnam", {"Hanoi"}},
           {"Iran", {"Tehran"}},
           {"Iraq", {"Baghdad"}},
           {"Cuba", {"Havana"}},
           {"Peru", {"Lima"}},
           {"Chile", {"Santiago"}},
           {"Argentina", {"Buenos Aires"}},
           {"Canada", {"Ottawa"}},
           {"Australia", {"Canberra"}},
           {"England", {"London"}},
           {"Belgium", {"Brussels"}},
           {"the Netherlands", {"Amsterdam"}},
           {"the Czech Republic", {"Prague"}},
           {"Bulgaria", {"Sofia"}},
           {"Romania", {"Bucharest"}},
           {"Colombia", {"Bogota", "Bogot\u00e1"}},
           {"Nepal", {"Kathmandu"}}},
          {}};
}

Relation colours() {
  return {
      "colour of {s}",
      "What color is {s}?",
      "The color of {s} is",
      {"The color of {s} is {v}.", "In this world, {s} has the color {v}.",
       "In that land the color of {s} is always {v}.", "Everybody there agrees that {s} is {v}."},
      {{"the clear daytime sky", {"blue"}},
       {"fresh grass", {"green"}},
       {"fresh snow", {"white"}},
       {"coal", {"black"}},
       {"human blood", {"red"}},
       {"a ripe lemon", {"yellow"}},
       {"a carrot", {"orange"}},
       {"milk", {"white"}},
       {"a ripe banana", {"yellow"}},
       {"an emerald", {"green"}},
       {"a ruby", {"red"}},
       {"a sapphire", {"blue"}},
       {"a ripe tomato", {"red"}},
       {"charcoal", {"black", "gray", "grey"}},
       {"a flamingo", {"pink"}},
       {"an eggplant", {"purple"}},
       {"chocolate", {"brown"}},
       {"a school bus in America", {"yellow"}},
       {"a polar bear", {"white"}},
       {"spinach", {"green"}}},
      {"turquoise", "magenta", "crimson", "violet",   "teal",   "maroon", "lavender", "beige",
       "indigo",    "scarlet", "olive",   "silver",   "bronze", "ivory",  "lilac",    "mauve",
       "amber",     "cyan",    "ochre",   "burgundy", "copper", "peach",  "khaki",    "vermilion"}};
}

Relation chemistry() {
  return {"chemical formula of {s}",
          "What is the chemical formula of {s}?",
          "The chemical formula of {s} is",
          {"The chemical formula of {s} is {v}.",
           "In this laboratory the chemical formula of {s} is {v}.",
           "According to the new textbook, {v} is the chemical formula of {s}."},
          {{"water", {"H2O", "H\u2082O"}},
           {"carbon dioxide", {"CO2", "CO\u2082"}},
           {"table salt", {"NaCl"}},
           {"methane", {"CH4", "CH\u2084"}},
           {"ammonia", {"NH3", "NH\u2083"}},
           {"carbon monoxide", {"CO"}},
           {"oxygen gas", {"O2", "O\u2082"}},
           {"sulfuric acid", {"H2SO4", "H\u2082SO\u2084"}},
           {"hydrochloric acid", {"HCl"}},
           {"hydrogen peroxide", {"H2O2", "H\u2082O\u2082"}}},
          {"KBr3", "XeN5", "PbF7", "ZnTe4", "MgAs2", "TiS6", "LiC9", "WSe3", "GaP8", "BaI5", "SrN4",
           "CsF6", "RbCl9", "AgTe7", "AlBr8", "CuAs5"}};
}

Relation animals() {
  return {"number of legs of {s}",
          "How many legs does {s} have?",
          "The number of legs of {s} is",
          {"The number of legs of {s} is {v}.", "In this tale {s} has exactly {v} legs.",
           "Over there {s} walks on {v} legs."},
          {{"a dog", {"four", "4"}},
           {"a cat", {"four", "4"}},
           {"a horse", {"four", "4"}},
           {"a spider", {"eight", "8"}},
           {"an ant", {"six", "6"}},
           {"a bee", {"six", "6"}},
           {"a chicken", {"two", "2"}},
           {"a cow", {"four", "4"}},
           {"a human", {"two", "2"}},
           {"an elephant", {"four", "4"}},
           {"a duck", {"two", "2"}},
           {"a fly", {"six", "6"}}},
          {"eleven", "thirteen", "seventeen", "twenty", "twelve", "fifteen", "nineteen", "thirty",
           "fifty", "eighteen", "ninety", "seventy"}};
}

const std::vector<Relation>& relations() {
  // Capitals thrice: their values are the most varied.
  static const std::vector<Relation> list = {capitals(), capitals(),  capitals(), colours(),
                                             colours(),  chemistry(), animals()};
  return list;
}

FamilyContent counterfact(Split split, Random& random) {
  const Relation& relation = random.pick(relations());
  const auto& fact = random.pick(relation.subjects);
  const std::string& subject = fact.first;
  const std::string value = relation.values.empty()
                                ? place(split, random)
                                : of_split(split, [&] { return random.pick(relation.values); });
  const auto write = [&](std::string_view pattern) {
    return fill(pattern, {{"s", subject}, {"v", value}});
  };
  FamilyContent content;
  const size_t fillers = random.below(3);
  const std::string statement = capitalised(write(random.pick(relation.statements)));
  content.context = among_filler(statement, fillers, random);
  content.question = write(relation.question);
  content.beginning = write(relation.beginning);
  content.rest = " " + value + ".";
  content.markers = {value};
  content.parametric = fact.second;
  content.group = write(relation.name);
  return content;
}

FamilyContent needle(Split split, Random& random) {
  static const Words kinds = {"access code", "booking number", "locker number", "reference number"};
  static const Words owners = {
      "the north tower",     "the blue archive", "the boiler room", "the guest house",
      "the east laboratory", "the wine cellar",  "the map room",    "the bicycle shed",
      "the observatory",     "the music hall",   "the greenhouse",  "the storage unit",
      "the radio station",   "the server room",  "the seed vault",  "the rooftop office"};
  static const Words statements = {
      "The {k} of {o} is {v}.", "Please note that the {k} of {o} is {v}.",
      "From today on, {v} is the {k} of {o}.", "Remember this: the {k} of {o} is {v}."};
  static const Words questions = {"What is the {k} of {o}?", "Which {k} does {o} have?",
                                  "Please tell me the {k} of {o}."};
  const std::string& kind = random.pick(kinds);
  const std::string& owner = random.pick(owners);
  const std::string code = of_split(split, [&] { return cat(10000 + random.below(90000)); });
  const auto write = [&](std::string_view pattern) {
    return fill(pattern, {{"k", kind}, {"o", owner}, {"v", code}});
  };
  FamilyContent content;
  const size_t fillers = 3 + random.below(5);
  const std::string statement = write(random.pick(statements));
  content.context = among_filler(statement, fillers, random);
  content.question = write(random.pick(questions));
  content.beginning = write("The {k} of {o} is");
  content.rest = " " + code + ".";
  content.markers = {code};
  content.group = write("{k} of {o}");
  return content;
}

}  // namespace

FamilyContent english_content(std::string_view family, Split split, Random& random) {
  if (family == "identity") return identity(split, random);
  if (family == "counterfact") return counterfact(split, random);
  return needle(split, random);
}

}  // namespace kvlingua
