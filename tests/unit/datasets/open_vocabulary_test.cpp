// Values without a list: never two alike, of many make-ups, each on one side for good; and the
// corpora made of them, of plain text, and of several corpora by weight.
#include "datasets/corpus/open_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <map>
#include <set>

#include "datasets/corpus/corpus.h"
#include "datasets/corpus/fresh_families.h"
#include "datasets/corpus/text_passages.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

TEST(OpenVocabulary, NamesAndPlacesAreNeverTwoAlike) {
  Random random(1);
  std::set<std::string> people, places;
  int64_t whole_names = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string person = open_person(ValuePart::kTraining, random);
    places.insert(open_place(ValuePart::kTraining, random));
    // A given name alone may come again.
    if (person.find(' ') == std::string::npos) continue;
    ++whole_names;
    people.insert(person);
  }
  EXPECT_GE(static_cast<int64_t>(people.size()), whole_names - 2);
  EXPECT_GE(places.size(), 19950u);  // two common words may meet again
}

TEST(OpenVocabulary, ValuesAreOfManyScriptsAndMakeUps) {
  Random random(2);
  std::map<std::string, int> seen;
  for (int i = 0; i < 6000; ++i) {
    const std::string value = open_value(ValueKind::kAny, ValuePart::kTraining, random);
    ASSERT_FALSE(value.empty());
    ASSERT_FALSE(find_invalid_utf8(value).has_value());
    size_t at = 0;
    while (at < value.size()) {
      const char32_t c = next_code_point(value, at);
      seen["digit"] += c >= '0' && c <= '9';
      seen["upper"] += c >= 'A' && c <= 'Z';
      seen["marked"] += c >= 0xC0 && c < 0x250;
      seen["Greek"] += c >= 0x370 && c < 0x400;
      seen["Cyrillic"] += c >= 0x400 && c < 0x500;
      seen["Arabic"] += c >= 0x600 && c < 0x700;
      seen["Kana"] += c >= 0x3040 && c < 0x3100;
      seen["Han"] += c >= 0x4E00 && c < 0xA000;
      seen["Hangul"] += c >= 0xAC00 && c < 0xD7B0;
      seen["at sign"] += c == '@';
      seen["hyphen"] += c == '-';
    }
  }
  for (const auto& [what, count] : seen) EXPECT_GT(count, 3) << what;
  EXPECT_EQ(seen.size(), 11u);
}

TEST(OpenVocabulary, EachSideKeepsItsOwn) {
  for (const ValuePart part : {ValuePart::kTraining, ValuePart::kValidation, ValuePart::kHeldOut}) {
    Random random(3);
    for (int i = 0; i < 500; ++i) {
      const std::string place = open_place(part, random);
      EXPECT_EQ(part_of(place), part) << place;
      EXPECT_EQ(split_of(place) == Split::kHeldOut, part == ValuePart::kHeldOut) << place;
    }
  }
  EXPECT_TRUE(all_words_of(part_of("Velora"), "Velora"));
}

TEST(FreshFamilies, ItemsAreAFunctionOfTheirNumberAndOfOneSide) {
  const std::vector<std::string> families{"identity", "counterfact", "needle", "open"};
  for (const FamilyStyle style : {FamilyStyle::kEnglish, FamilyStyle::kNano}) {
    const FreshFamilies training(families, style, 7, ValuePart::kTraining),
        validation(families, style, 7, ValuePart::kValidation);
    std::map<std::string, int> by_family;
    std::set<std::string> contexts;
    for (uint64_t n = 0; n < 240; ++n) {
      const FamilyItem item = training.item(n), same = training.item(n), held = validation.item(n);
      EXPECT_EQ(item.context, same.context);
      EXPECT_EQ(item.prompt, same.prompt);
      EXPECT_EQ(item.family, families[n % 4]);
      ++by_family[item.family];
      contexts.insert(item.context);
      EXPECT_FALSE(item.context.empty());
      EXPECT_FALSE(item.prompt.empty());
      EXPECT_FALSE(item.answer.empty());
      if (item.family == "open") continue;  // its values stand in it whole
      for (const std::string& marker : item.markers) {
        EXPECT_TRUE(all_words_of(ValuePart::kTraining, marker)) << marker;
        EXPECT_THAT(item.context, HasSubstr(marker));
      }
      for (const std::string& marker : held.markers)
        EXPECT_TRUE(all_words_of(ValuePart::kValidation, marker)) << marker;
    }
    EXPECT_EQ(by_family.size(), 4u);
    EXPECT_GE(contexts.size(), 238u);
  }
}

TEST(FreshFamilies, AnOpenItemsAnswerStandsInItsContext) {
  const FreshFamilies training({"open"}, FamilyStyle::kEnglish, 1, ValuePart::kTraining);
  int repeats = 0, completions = 0;
  for (uint64_t n = 0; n < 600; ++n) {
    const FamilyItem item = training.item(n);
    ASSERT_EQ(item.markers.size(), 1u);
    // At a sentence's beginning a value is capitalised.
    EXPECT_THAT(item.context + "\n" + item.context, HasSubstr(item.markers[0].substr(1)));
    EXPECT_THAT(item.answer, HasSubstr(item.markers[0].substr(1)));
    repeats += item.answer == item.context;
    completions += item.completion;
  }
  EXPECT_GT(repeats, 60);
  EXPECT_GT(completions, 150);
}

TEST(FreshFamilies, RefusesEvaluationsOwnSide) {
  EXPECT_THROW(FreshFamilies({"open"}, FamilyStyle::kEnglish, 1, ValuePart::kHeldOut), Error);
  EXPECT_THROW(FreshFamilies({"opne"}, FamilyStyle::kEnglish, 1, ValuePart::kTraining), Error);
}

DataOptions synthetic(const std::string& style, int64_t documents) {
  DataOptions options;
  options.synthetic.style = style;
  options.synthetic.documents = documents;
  return options;
}

// What chooses between states of training is in no training corpus.
TEST(EnglishCorpus, HoldsNoValueThatValidates) {
  const auto corpus = open_corpus(synthetic("english", 400));
  const FreshFamilies validation({"identity", "needle"}, FamilyStyle::kEnglish, 7,
                                 ValuePart::kValidation);
  std::string all;
  for (int64_t i = 0; i < corpus->size(); ++i) all += corpus->read(i).text + "\n";
  for (uint64_t n = 0; n < 200; ++n) {
    for (const std::string& marker : validation.item(n).markers)
      EXPECT_EQ(all.find(marker), std::string::npos) << marker;
  }
}

TEST(OpenCorpus, IsAFunctionOfSeedAndNumberAndOfItsSplit) {
  DataOptions options = synthetic("open", 300);
  const auto a = open_corpus(options), b = open_corpus(options);
  options.split = "heldout";
  const auto held = open_corpus(options);
  std::set<std::string> texts;
  for (int64_t i = 0; i < a->size(); ++i) {
    EXPECT_EQ(a->read(i).text, b->read(i).text);
    EXPECT_NE(a->read(i).text, held->read(i).text);
    texts.insert(a->read(i).text);
  }
  EXPECT_EQ(texts.size(), 300u);
  EXPECT_EQ(a->describe()["style"], "open");
}

void write_gz(const std::filesystem::path& path, const std::string& text) {
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
}

std::string book(int paragraphs) {
  std::string text;
  for (int i = 0; i < paragraphs; ++i) {
    text += "Paragraph " + std::to_string(i) +
            " begins here. It goes on for a while, as books do; "
            "été, naïve and 春 are words in it.\nA line more.\n\n";
  }
  return text;
}

TEST(TextCorpus, CutsWhereParagraphsAndSentencesEndAndReadsGzip) {
  const TempDir dir;
  std::ofstream(dir / "a.txt") << book(100);
  write_gz(dir / "b.txt.gz", book(100));
  DataOptions options;
  options.kind = "text";
  options.passage = 300;
  for (const char* name : {"a.txt", "b.txt.gz"}) {
    options.files = {(dir / name).string()};
    const auto corpus = open_corpus(options);
    ASSERT_GT(corpus->size(), 40) << name;
    std::string joined;
    for (int64_t i = 0; i < corpus->size(); ++i) {
      const Document document = corpus->read(i);
      EXPECT_LE(document.text.size(), 300u);
      EXPECT_THAT(document.text, ::testing::StartsWith("Paragraph"));
      joined += document.text + "\n\n";
    }
    EXPECT_EQ(joined, book(100));
  }
}

TEST(TextCorpus, NeighboursStandOnOneSide) {
  const TempDir dir;
  std::ofstream(dir / "a.txt") << book(400);
  DataOptions options;
  options.kind = "text";
  options.passage = 150;
  options.files = {(dir / "a.txt").string()};
  const auto corpus = open_corpus(options);
  EXPECT_EQ(corpus->read(0).group, corpus->read(63).group);
  EXPECT_NE(corpus->read(63).group, corpus->read(64).group);
}

TEST(TextCorpus, NoPassageIsEmptyTooLongOrCutsACharacter) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "春眠不覚暁";
  const auto passages = cut_passages(text, 100);
  size_t at = 0;
  for (const auto& [begin, end] : passages) {
    EXPECT_EQ(begin, at);
    EXPECT_GT(end, begin);
    EXPECT_LE(end - begin, 100u);
    EXPECT_FALSE(find_invalid_utf8(std::string_view(text).substr(begin, end - begin)).has_value());
    at = end;
  }
  EXPECT_EQ(at, text.size());
  EXPECT_TRUE(cut_passages(" \n\n ", 100).empty());
}

TEST(TextCorpus, DamagedGzipAndOtherEncodingsAreNamed) {
  const TempDir dir;
  write_gz(dir / "a.gz", book(2000));
  std::filesystem::resize_file(dir / "a.gz", std::filesystem::file_size(dir / "a.gz") / 2);
  std::ofstream(dir / "latin.txt") << "caf\xe9 and more";
  for (const auto& [name, expected] :
       {std::pair{"a.gz", "damaged"}, {"latin.txt", "UTF-8"}, {"none.txt", "cannot be read"}}) {
    DataOptions options;
    options.kind = "text";
    options.files = {(dir / name).string()};
    try {
      open_corpus(options);
      ADD_FAILURE() << name;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(name));
      EXPECT_THAT(e.what(), HasSubstr(expected));
    }
  }
}

TEST(MixedCorpus, TakesEachByItsWeight) {
  const TempDir dir;
  std::ofstream(dir / "a.txt") << book(1000);
  DataOptions options;
  options.kind = "mix";
  options.passage = 150;
  options.mix.resize(2);
  options.mix[0].weight = 3;
  options.mix[0].synthetic.style = "open";
  options.mix[0].synthetic.documents = 300;
  options.mix[1].kind = "text";
  options.mix[1].files = {(dir / "a.txt").string()};
  const auto corpus = open_corpus(options);
  ASSERT_EQ(corpus->size(), 400);  // the built-in one whole, of the book a third as much
  int64_t passages = 0;
  std::set<std::string> texts;
  for (int64_t i = 0; i < corpus->size(); ++i) {
    const Document document = corpus->read(i);
    passages += !document.settled;
    texts.insert(document.text);
  }
  EXPECT_EQ(passages, 100);
  EXPECT_GE(texts.size(), 390u);
  EXPECT_EQ(corpus->describe()["parts"].size(), 2u);
  const std::string sha = corpus->describe()["sha256"];
  options.mix[0].synthetic.seed = 2;
  EXPECT_NE(open_corpus(options)->describe()["sha256"], sha);
}

}  // namespace
}  // namespace kvlingua
