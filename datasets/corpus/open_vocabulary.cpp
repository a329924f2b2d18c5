// Every draw is a statement of its own: the order of two draws in one expression is the compiler's.
#include "datasets/corpus/open_vocabulary.h"

#include <array>
#include <cctype>
#include <cstdio>
#include <vector>

#include "datasets/corpus/family_content.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua {
namespace {

using Words = std::vector<std::string>;

constexpr uint64_t kValidation = hash_name("validation values");

template <class Draw>
std::string of_part(ValuePart part, const Draw& draw) {
  while (true) {
    std::string value = draw();
    if (part_of(value) == part) return value;
  }
}

// The sounds of a language as syllables: onset, vowel, sometimes a coda.
struct Sounds {
  Words onsets, vowels, codas;
  double coda = 0.3;
};

const std::vector<Sounds>& sounds() {
  static const std::vector<Sounds> list = {
      {{"b", "br", "c", "ch", "d",  "dr", "f", "g",  "gr", "h", "j", "k", "l", "m",
        "n", "p",  "r", "s",  "sh", "st", "t", "th", "tr", "v", "w", "y", "z"},
       {"a", "e", "i", "o", "u", "ea", "ai", "oo", "y"},
       {"n", "r", "l", "s", "t", "m", "nd", "rt", "ck", "ll", "x"},
       .4},
      {{"b", "v", "g", "d",  "zh", "z",  "k",  "l",  "m",  "n",  "p",
        "r", "s", "t", "kh", "ts", "ch", "sh", "st", "vl", "sv", "dr"},
       {"a", "e", "i", "o", "u", "ya", "ye", "yu"},
       {"v", "n", "k", "sk", "r", "m", "l", "slav", "mir"},
       .35},
      {{"k", "s", "t", "n", "h", "m", "y", "r", "w", "g", "z", "d", "b", "sh", "ch", "ky", "ts"},
       {"a", "i", "u", "e", "o", "ou"},
       {"n"},
       .15},
      {{"b", "t", "j", "h", "kh", "d", "r", "z", "s", "sh", "f", "q", "k", "l", "m", "n", "w", "y",
        "gh"},
       {"a", "i", "u", "aa", "ee"},
       {"m", "n", "r", "d", "l", "b", "f"},
       .45},
      {{"p", "t", "k", "b", "d", "m", "n", "ng", "w", "l", "r", "h", "mb", "nd", "nk"},
       {"a", "e", "i", "o", "u", "au", "ei"},
       {"", "n"},
       .05},
      {{"ll", "gw", "rh", "c", "d", "dd", "f", "g", "m", "n", "p", "t", "w", "br", "cl", "dr"},
       {"a", "e", "i", "o", "w", "y", "ae", "wy"},
       {"n", "dd", "r", "th", "l", "s", "ch"},
       .5},
      {{"x", "q", "zh", "j", "h", "l", "m", "f", "g", "b", "d", "t", "sh", "y", "w", "c"},
       {"iao", "ang", "eng", "ong", "i", "u", "ai", "ei", "uan", "in", "ao", "ou"},
       {""},
       0},
      {{"b", "bj", "d", "f", "g", "h", "k", "kj", "l", "m", "n", "r", "s", "sk", "sv", "t", "v"},
       {"a", "å", "ä", "e", "i", "o", "ö", "ø", "u", "y", "æ", "ü"},
       {"n", "r", "l", "s", "rd", "ng", "lm"},
       .4},
      {{"č", "š", "ž", "ř", "ł", "b", "c", "d", "k", "l",
        "m", "n", "p", "r", "s", "t", "v", "w", "ş", "ğ"},
       {"a", "á", "e", "é", "ě", "i", "í", "o", "ó", "u", "ů", "ą", "ę", "ã", "õ", "ê"},
       {"n", "k", "ć", "ń", "l", "j", "z"},
       .4}};
  return list;
}

std::string syllables(int64_t count, Random& random) {
  const Sounds& language = random.pick(sounds());
  std::string word;
  for (int64_t i = 0; i < count; ++i) {
    word += random.pick(language.onsets);
    word += random.pick(language.vowels);
    if (random.chance(language.coda)) word += random.pick(language.codas);
  }
  return word;
}

// Letters of a script that is not Latin: ranges of code points, and how many make a word.
struct Script {
  std::vector<std::pair<char32_t, char32_t>> ranges;
  uint64_t least, more;
  double weight;
};

std::string foreign(Random& random) {
  static const std::vector<Script> scripts = {{{{0x430, 0x44F}}, 4, 6, .3},    // Cyrillic
                                              {{{0x3B1, 0x3C9}}, 4, 6, .2},    // Greek
                                              {{{0x4E00, 0x9FA5}}, 2, 2, .2},  // Han
                                              {{{0x30A2, 0x30ED}}, 3, 4, .1},  // Katakana
                                              {{{0xAC00, 0xD7A3}}, 2, 2, .1},  // Hangul
                                              {{{0x627, 0x63A}, {0x641, 0x64A}}, 4, 4, .1}};
  double u = random.uniform();
  const Script* script = &scripts.front();
  for (const Script& s : scripts) {
    script = &s;
    if (u < s.weight) break;
    u -= s.weight;
  }
  std::string word;
  const uint64_t letters = script->least + random.below(script->more);
  for (uint64_t i = 0; i < letters; ++i) {
    const auto& [first, last] = random.pick(script->ranges);
    append_utf8(word, first + static_cast<char32_t>(random.below(last - first + 1)));
  }
  return word;
}

const Words& common_words() {
  static const Words list = {
      "amber",   "anchor",  "apple",   "arrow",   "autumn",  "barrel",  "basket",  "beacon",
      "bell",    "birch",   "bottle",  "bridge",  "bronze",  "button",  "cabin",   "candle",
      "canyon",  "carbon",  "castle",  "cedar",   "cellar",  "cherry",  "circle",  "clover",
      "cobalt",  "copper",  "coral",   "cotton",  "crane",   "crystal", "dagger",  "delta",
      "desert",  "dragon",  "eagle",   "ember",   "falcon",  "feather", "fern",    "fiddle",
      "field",   "flint",   "forest",  "fossil",  "fox",     "garden",  "ginger",  "glacier",
      "granite", "harbor",  "hazel",   "heron",   "hollow",  "honey",   "iron",    "island",
      "ivory",   "jade",    "jasmine", "juniper", "kettle",  "lantern", "larch",   "lemon",
      "linen",   "maple",   "marble",  "meadow",  "mercury", "mirror",  "mist",    "moon",
      "needle",  "north",   "oak",     "ocean",   "olive",   "opal",    "orbit",   "orchid",
      "otter",   "paper",   "pearl",   "pepper",  "pine",    "planet",  "plum",    "quartz",
      "raven",   "reed",    "ribbon",  "river",   "rocket",  "rose",    "saffron", "salt",
      "shadow",  "silver",  "sparrow", "spring",  "stone",   "storm",   "summer",  "sunrise",
      "swan",    "thistle", "thunder", "tiger",   "timber",  "tower",   "tulip",   "valley",
      "velvet",  "violet",  "walnut",  "water",   "whistle", "willow",  "winter",  "wolf",
      "wool",    "yarrow",  "zephyr"};
  return list;
}

// A word by itself, in lower case; how it is written is up to the caller.
std::string plain_word(Random& random) {
  if (random.chance(.25)) {
    // Two common words together are soon drawn again; one with a strange half is not.
    std::string word = random.pick(common_words());
    word += random.chance(.1) ? random.pick(common_words()) : syllables(2, random);
    return word;
  }
  const auto count = 2 + static_cast<int64_t>(random.below(3));
  return syllables(count, random);
}

std::string given_name(Random& random) {
  if (random.chance(.08)) return foreign(random);
  const auto count = 2 + static_cast<int64_t>(random.below(2));
  return capitalised(syllables(count, random));
}

std::string family_name(Random& random) {
  static const Words particles = {"van ", "de ", "al-", "O'", "Mc", "von ", "da ", "bin ", "St. "};
  if (random.chance(.08)) return foreign(random);
  std::string name = capitalised(plain_word(random));
  if (random.chance(.15)) {
    const std::string other = capitalised(plain_word(random));
    name += "-" + other;
  }
  if (random.chance(.12)) name = random.pick(particles) + name;
  return name;
}

std::string place_name(Random& random) {
  static const Words ends = {"ville", "burg",  "ford", "ton",  "haven", "stad", "abad",   "grad",
                             "wick",  "mouth", "dale", "holm", "by",    "port", "minster"};
  static const Words fronts = {"New ",  "Port ",  "San ",   "Lower ", "Fort ",
                               "Lake ", "Upper ", "Saint-", "El "};
  if (random.chance(.08)) return foreign(random);
  std::string name = plain_word(random);
  if (random.chance(.4)) name += random.pick(ends);
  name = capitalised(name);
  if (random.chance(.2)) name = random.pick(fronts) + name;
  if (random.chance(.1)) {
    const std::string second = capitalised(plain_word(random));
    name += " " + second;
  }
  return name;
}

std::string drawn_from(std::string_view alphabet, uint64_t count, Random& random) {
  std::string out;
  for (uint64_t i = 0; i < count; ++i) out += alphabet[random.below(alphabet.size())];
  return out;
}

std::string code(Random& random) {
  constexpr std::string_view digits = "0123456789", hex = "0123456789abcdef",
                             upper = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789",
                             mixed = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
  const uint64_t form = random.below(7), length = 4 + random.below(5);
  switch (form) {
    case 0:
    case 1:
      return drawn_from(digits, length, random);
    case 2:
      return drawn_from(upper, length, random);
    case 3:
      return drawn_from(mixed, length, random);
    case 4:
      return drawn_from(hex, length, random);
    case 5: {
      const std::string front = drawn_from(upper, 3, random);
      return front + "-" + drawn_from(digits, 4, random);
    }
    default: {
      std::string name = plain_word(random);
      name += random.chance(.5) ? "_" : "-";
      return name + drawn_from(digits, 3, random);
    }
  }
}

std::string number(Random& random) {
  static const Words units = {" km",    " kg",    " metres", " euros", "%", " degrees", " litres",
                              " hours", " miles", " volts",  "",       "",  ""};
  const uint64_t size = random.below(5);
  uint64_t limit = 100;
  for (uint64_t i = 0; i < size; ++i) limit *= 10;
  const uint64_t whole = random.below(limit);
  std::string text = cat(whole);
  if (random.chance(.3)) text += cat(".", random.below(100));
  return text + random.pick(units);
}

std::string date(Random& random) {
  static const Words months = {"January",   "February", "March",    "April",
                               "May",       "June",     "July",     "August",
                               "September", "October",  "November", "December"};
  const uint64_t form = random.below(3), day = 1 + random.below(28), month = random.below(12),
                 year = 1400 + random.below(900);
  const std::string name = months[month];
  if (form == 0) return cat(day, " ", name, " ", year);
  if (form == 1) return cat(name, " ", day, ", ", year);
  char text[16];
  std::snprintf(text, sizeof text, "%04u-%02u-%02u", static_cast<unsigned>(year),
                static_cast<unsigned>(month + 1), static_cast<unsigned>(day));
  return text;
}

std::string address(Random& random) {
  static const Words streets = {" Street", " Road",  " Lane", " Avenue",
                                " Square", "straat", "gata"};
  const std::string word = plain_word(random);
  const uint64_t form = random.below(3), house = 1 + random.below(999);
  if (form == 0) {
    const std::string street = capitalised(word) + random.pick(streets);
    return cat(house, " ", street);
  }
  if (form == 1) return cat(word, house, "@", plain_word(random), ".org");
  return cat(plain_word(random), ".", word, ".net/", house);
}

std::string phrase(Random& random) {
  std::string text = random.pick(common_words());
  const uint64_t more = 1 + random.below(3);
  for (uint64_t i = 0; i < more; ++i) {
    text += ' ';
    text += random.chance(.3) ? plain_word(random) : random.pick(common_words());
  }
  return text;
}

std::string draw(ValueKind kind, Random& random) {
  switch (kind) {
    case ValueKind::kPlace:
      return place_name(random);
    case ValueKind::kCode:
      return code(random);
    case ValueKind::kNumber:
      return number(random);
    case ValueKind::kDate:
      return date(random);
    case ValueKind::kAddress:
      return address(random);
    case ValueKind::kPhrase:
      return phrase(random);
    default:
      return random.chance(.06) ? foreign(random) : plain_word(random);
  }
}

}  // namespace

ValuePart part_of(std::string_view value) {
  if (split_of(value) == Split::kHeldOut) return ValuePart::kHeldOut;
  return mix(kValidation, hash_name(value)) % 6 == 0 ? ValuePart::kValidation
                                                     : ValuePart::kTraining;
}

bool all_words_of(ValuePart part, std::string_view value) {
  while (!value.empty()) {
    const size_t end = value.find(' ');
    const std::string_view word = value.substr(0, end);
    if (!word.empty() && part_of(word) != part) return false;
    if (end == std::string_view::npos) break;
    value.remove_prefix(end + 1);
  }
  return true;
}

std::string open_person(ValuePart part, Random& random) {
  const std::string given = of_part(part, [&] { return given_name(random); });
  if (random.chance(.2)) return given;
  return given + " " + of_part(part, [&] { return family_name(random); });
}

std::string open_place(ValuePart part, Random& random) {
  return of_part(part, [&] { return place_name(random); });
}

std::string open_value(ValueKind kind, ValuePart part, Random& random) {
  if (kind == ValueKind::kAny) {
    constexpr std::array kinds = {ValueKind::kPerson, ValueKind::kPlace,   ValueKind::kWord,
                                  ValueKind::kWord,   ValueKind::kCode,    ValueKind::kNumber,
                                  ValueKind::kDate,   ValueKind::kAddress, ValueKind::kPhrase};
    kind = kinds[random.below(kinds.size())];
  }
  if (kind == ValueKind::kPerson) return open_person(part, random);
  return of_part(part, [&] { return draw(kind, random); });
}

}  // namespace kvlingua
