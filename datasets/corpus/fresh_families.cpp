// Every draw is a statement of its own: the order of two draws in one expression is the compiler's.
#include "datasets/corpus/fresh_families.h"

#include <algorithm>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using Words = std::vector<std::string>;

// "the access code of the old ferry is 4471": {r} of {e} is {v}.
struct Relation {
  std::string name;
  ValueKind value;
};

const std::vector<Relation>& relations() {
  using K = ValueKind;
  static const std::vector<Relation> list = {{"access code", K::kCode},
                                             {"booking number", K::kCode},
                                             {"password", K::kCode},
                                             {"serial number", K::kCode},
                                             {"licence plate", K::kCode},
                                             {"version", K::kCode},
                                             {"call sign", K::kCode},
                                             {"account number", K::kCode},
                                             {"file name", K::kCode},
                                             {"owner", K::kPerson},
                                             {"keeper", K::kPerson},
                                             {"founder", K::kPerson},
                                             {"author", K::kPerson},
                                             {"captain", K::kPerson},
                                             {"architect", K::kPerson},
                                             {"head cook", K::kPerson},
                                             {"director", K::kPerson},
                                             {"nearest town", K::kPlace},
                                             {"destination", K::kPlace},
                                             {"birthplace", K::kPlace},
                                             {"meeting place", K::kPlace},
                                             {"capital", K::kPlace},
                                             {"home port", K::kPlace},
                                             {"place of origin", K::kPlace},
                                             {"price", K::kNumber},
                                             {"weight", K::kNumber},
                                             {"length", K::kNumber},
                                             {"depth", K::kNumber},
                                             {"top speed", K::kNumber},
                                             {"age", K::kNumber},
                                             {"room number", K::kNumber},
                                             {"opening date", K::kDate},
                                             {"deadline", K::kDate},
                                             {"date of departure", K::kDate},
                                             {"birthday", K::kDate},
                                             {"address", K::kAddress},
                                             {"contact", K::kAddress},
                                             {"nickname", K::kWord},
                                             {"mascot", K::kWord},
                                             {"colour", K::kWord},
                                             {"main ingredient", K::kWord},
                                             {"material", K::kWord},
                                             {"currency", K::kWord},
                                             {"language", K::kWord},
                                             {"favourite dish", K::kPhrase},
                                             {"motto", K::kPhrase},
                                             {"old name", K::kPhrase},
                                             {"flavour", K::kWord},
                                             {"secret ingredient", K::kAny},
                                             {"answer", K::kAny},
                                             {"code word", K::kAny},
                                             {"prize", K::kPhrase},
                                             {"title", K::kPhrase},
                                             {"theme", K::kPhrase},
                                             {"label", K::kAny},
                                             {"setting", K::kAny}};
  return list;
}

std::string entity(ValuePart part, Random& random) {
  static const Words adjectives = {"old",   "blue",   "northern", "small",  "new",     "hidden",
                                   "red",   "second", "royal",    "broken", "quiet",   "silver",
                                   "upper", "grey",   "summer",   "public", "eastern", "white"};
  static const Words nouns = {"ferry",     "mill",     "archive",    "bakery",     "tower",
                              "garden",    "library",  "train",      "museum",     "workshop",
                              "school",    "hotel",    "bridge",     "engine",     "festival",
                              "orchestra", "theatre",  "island",     "machine",    "project",
                              "company",   "village",  "ship",       "school bus", "recipe",
                              "book",      "hospital", "laboratory", "farm",       "café"};
  const uint64_t form = random.below(5);
  if (form == 0) return open_person(part, random);
  if (form == 1) return open_place(part, random);
  const std::string& noun = random.pick(nouns);
  if (form == 2)
    return cat("the ", noun, " ", capitalised(open_value(ValueKind::kWord, part, random)));
  return cat("the ", random.pick(adjectives), " ", noun);
}

const Words& filler() {
  static const Words list = {"Nobody had expected so many visitors that afternoon.",
                             "It rained for most of the week, and the roads were slow.",
                             "The notes below were copied from an older page.",
                             "Please read everything before you sign.",
                             "The rest of the letter is about the weather.",
                             "Two of the windows on the south side have to be replaced.",
                             "There was bread, soup, and far too much cake.",
                             "The next meeting will be shorter than the last one.",
                             "A cat slept on the radiator through all of it.",
                             "As always, the last page was missing.",
                             "The committee has not decided yet.",
                             "In the evening the lights went out twice.",
                             "Some of this may change without notice.",
                             "We walked along the shore until it was dark.",
                             "The manual says nothing about it.",
                             "Later the band played until midnight.",
                             "Further questions should be sent to the office.",
                             "The path behind the church is closed in winter.",
                             "She put the letter back into its envelope.",
                             "It took three people to carry the table upstairs."};
  return list;
}

struct Statement {
  std::string text;  // as the context has it
  std::string question, beginning, rest;
  std::string value, about;
};

std::string with(std::string_view pattern, const std::string& r, const std::string& e,
                 const std::string& v) {
  return capitalised(fill(pattern, {{"r", r}, {"e", e}, {"v", v}}));
}

Statement fact(ValuePart part, Random& random) {
  static const Words texts = {"The {r} of {e} is {v}.",
                              "The {r} of {e} is {v}.",
                              "As for {e}, the {r} is {v}.",
                              "{v} is the {r} of {e}.",
                              "Remember that the {r} of {e} is {v}.",
                              "Since last year the {r} of {e} has been {v}.",
                              "Asked for the {r} of {e}, she said: {v}.",
                              "{e}: {r} {v}.",
                              "{e} | {r} | {v}",
                              "{\"{e}\": {\"{r}\": \"{v}\"}}",
                              "- {r} of {e}: {v}",
                              "If anybody wants to know the {r} of {e}, tell them {v}.",
                              "We noted {v} as the {r} of {e}."};
  static const Words questions = {"What is the {r} of {e}?",
                                  "Which {r} does the text give for {e}?",
                                  "Please tell me the {r} of {e}.", "{e}: what is the {r}?",
                                  "What does the text say about the {r} of {e}?"};
  const Relation& relation = random.pick(relations());
  const std::string about = entity(part, random);
  const std::string value = open_value(relation.value, part, random);
  const std::string& text = random.pick(texts);
  const std::string& question = random.pick(questions);
  Statement s{.question = with(question, relation.name, about, ""),
              .beginning = with("The {r} of {e} is", relation.name, about, ""),
              .rest = " " + value + ".",
              .value = value,
              .about = relation.name + " of " + about};
  // A record's braces are no placeholders.
  s.text = text.front() == '{' && text[1] == '"'
               ? cat("{\"", about, "\": {\"", relation.name, "\": \"", value, "\"}}")
               : with(text, relation.name, about, value);
  return s;
}

Statement person(ValuePart part, Random& random) {
  static const Words texts = {"My name is {n} and I come from {p}.",
                              "I'm {n}, by the way; home is {p}.",
                              "This is {n}, writing to you from {p}.",
                              "Name: {n}\nResidence: {p}",
                              "{n} ({p})",
                              "From: {n}, {p}.",
                              "They call me {n}. I have been living in {p} for a while.",
                              "\"{n},\" I said, \"from {p}.\"",
                              "Signed, {n}, {p}.",
                              "I, {n}, resident of {p}, agree."};
  static const Words questions = {
      "Who wrote this, and where do they live?", "What are your name and your home town?",
      "Say your name and where you live.", "What is your name, and where is your home?"};
  const std::string n = open_person(part, random);
  const std::string p = open_place(part, random);
  const std::string& text = random.pick(texts);
  const std::string& question = random.pick(questions);
  return {.text = fill(text, {{"n", n}, {"p", p}}),
          .question = question,
          .beginning = "My name is",
          .rest = " " + n + " and I live in " + p + ".",
          .value = n,
          .about = "name"};
}

// A list of words to be carried in their order.
Statement list_of(ValuePart part, Random& random) {
  std::string words;
  const uint64_t count = 2 + random.below(4);
  for (uint64_t i = 0; i < count; ++i) {
    words += words.empty() ? "" : ", ";
    words += open_value(ValueKind::kAny, part, random);
  }
  return {.text = "The list: " + words + ".",
          .question = "What is on the list?",
          .beginning = "On the list are",
          .rest = " " + words + ".",
          .value = words,
          .about = "list"};
}

}  // namespace

FamilyContent open_content(ValuePart part, Random& random) {
  std::vector<Statement> statements;
  if (random.chance(.35)) statements.push_back(person(part, random));
  if (random.chance(.12)) statements.push_back(list_of(part, random));
  const uint64_t facts = statements.empty() ? 1 + random.below(4) : random.below(4);
  for (uint64_t i = 0; i < facts; ++i) {
    Statement more = fact(part, random);
    const bool asked_already = std::any_of(statements.begin(), statements.end(),
                                           [&](const auto& s) { return s.about == more.about; });
    if (!asked_already) statements.push_back(std::move(more));
  }
  const size_t asked = random.below(statements.size());
  Words parts;
  for (const Statement& s : statements) parts.push_back(s.text);
  const uint64_t fillers = random.below(3);
  for (uint64_t i = 0; i < fillers; ++i) parts.push_back(random.pick(filler()));
  random.shuffle(parts);
  const std::string between = random.chance(.2) ? "\n" : " ";
  FamilyContent content;
  for (const std::string& p : parts)
    content.context += (content.context.empty() ? "" : between) + p;
  Statement& s = statements[asked];
  content.question = std::move(s.question);
  content.beginning = std::move(s.beginning);
  content.rest = std::move(s.rest);
  content.markers = {s.value};
  content.group = std::move(s.about);
  return content;
}

FreshFamilies::FreshFamilies(std::vector<std::string> families, FamilyStyle style, uint64_t seed,
                             ValuePart part)
    : families_(std::move(families)), style_(style), seed_(seed), part_(part) {
  if (part == ValuePart::kHeldOut) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "fresh items",
                 .what = "held-out values are evaluation's",
                 .expected = "training or validation values"});
  }
  for (const std::string& name : families_) {
    const auto& known = family_names();
    if (name == "open" || std::find(known.begin(), known.end(), name) != known.end()) continue;
    throw Error({.code = ExitCode::kUsage,
                 .where = "families",
                 .what = "unknown family",
                 .got = printable(name),
                 .expected = "identity, counterfact, needle or open"});
  }
}

FamilyItem FreshFamilies::item(uint64_t number) const {
  static const Words again = {"Repeat the text above, word for word.",
                              "Write down exactly what the text says.", "Copy the text above."};
  const std::string& family = families_[number % families_.size()];
  Random random(mix(mix(seed_, hash_name("fresh " + family)), number));
  FamilyItem item{.family = family};
  FamilyContent content;
  if (family == "open") {
    content = open_content(part_, random);
  } else {
    // The template families know two sides only: draw until the values stand on the right one.
    const auto suits = [&](const std::string& value) { return all_words_of(part_, value); };
    do {
      content = style_ == FamilyStyle::kNano ? nano_content(family, Split::kTrain, random)
                                             : english_content(family, Split::kTrain, random);
    } while (!std::all_of(content.markers.begin(), content.markers.end(), suits));
  }
  item.completion = random.chance(.5);
  const bool repeat = family == "open" && random.chance(.2);
  if (repeat) {
    item.completion = false;
    item.prompt = random.pick(again);
    item.answer = content.context;
  } else {
    item.prompt = item.completion ? content.beginning : content.question;
    item.answer = item.completion ? content.rest : content.answer();
  }
  item.context = std::move(content.context);
  item.markers = std::move(content.markers);
  item.parametric = std::move(content.parametric);
  return item;
}

}  // namespace kvlingua
