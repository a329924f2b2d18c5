// Corpora: every kind reads what its files say, in any order, and names file and line of what it
// cannot read.
#include "datasets/corpus/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <set>

#include "datasets/corpus/corpus_file.h"
#include "kvlingua/base/error.h"
#include "support/pair_fixtures.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

DataOptions options_for(const std::string& kind, const std::vector<std::filesystem::path>& files) {
  DataOptions options;
  options.kind = kind;
  for (const auto& f : files) options.files.push_back(f.string());
  return options;
}

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string message_of(const std::function<void()>& work, ExitCode code = ExitCode::kInput) {
  try {
    work();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(Corpus, PlainLinesAcrossFilesPassOverEmptyOnes) {
  const TempDir dir;
  write(dir / "a.txt", "\xef\xbb\xbfone\n\n  \ntwo\r\nthree");
  write(dir / "b.txt", "f\xc3\xbcnf\n");
  const auto corpus = open_corpus(options_for("plain", {dir / "a.txt", dir / "b.txt"}));
  ASSERT_EQ(corpus->size(), 4);
  EXPECT_EQ(corpus->read(3).text, "f\xc3\xbcnf");
  EXPECT_EQ(corpus->read(0).text, "one");
  EXPECT_EQ(corpus->read(1).text, "two");
  EXPECT_EQ(corpus->read(2).text, "three");
  EXPECT_EQ(corpus->read(2).group, "three");
}

TEST(Corpus, JsonlReadsTheNamedFieldAndGroups) {
  const TempDir dir;
  write(dir / "a.jsonl", "{\"body\": \"x \\u00e9\"}\n{\"body\": \"y\", \"group\": \"g\"}\n");
  DataOptions options = options_for("jsonl", {dir / "a.jsonl"});
  options.text_field = "body";
  const auto corpus = open_corpus(options);
  ASSERT_EQ(corpus->size(), 2);
  EXPECT_EQ(corpus->read(0).text, "x \xc3\xa9");
  EXPECT_EQ(corpus->read(1).group, "g");
}

TEST(Corpus, MalformedRecordsNameFileAndLine) {
  const TempDir dir;
  write(dir / "a.jsonl",
        "{\"text\": \"ok\"}\n\n{\"text\": \n{\"txet\": \"typo\"}\n{\"text\": 5}\n[1]\n{\"text\": "
        "\"bad \xff\"}\n{\"text\": \"ok2\"}\n");
  const auto corpus = open_corpus(options_for("jsonl", {dir / "a.jsonl"}));
  ASSERT_EQ(corpus->size(), 7);
  const auto read = [&](int64_t i) { return message_of([&] { corpus->read(i); }); };
  EXPECT_THAT(read(1), HasSubstr("a.jsonl:3"));
  EXPECT_THAT(read(1), HasSubstr("--skip-bad"));
  EXPECT_THAT(read(2), HasSubstr("a.jsonl:4"));
  EXPECT_THAT(read(2), HasSubstr("\"text\""));
  EXPECT_THAT(read(3), HasSubstr("a.jsonl:5"));
  EXPECT_THAT(read(4), HasSubstr("a.jsonl:6"));
  EXPECT_THAT(read(5), HasSubstr("a.jsonl:7"));
  EXPECT_THAT(read(5), HasSubstr("UTF-8"));
  EXPECT_EQ(corpus->read(6).text, "ok2");
}

TEST(Corpus, ChatAndShareGptInLinesOrInOneArray) {
  const TempDir dir;
  const std::string messages =
      R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A [1] \" {"}]})";
  const std::string shared =
      R"({"id": 1, "conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q\nq"}, {"from": "gpt", "value": "A"}]})";
  write(dir / "m.jsonl", messages + "\n" + messages + "\n");
  write(dir / "s.json", "[\n  " + shared + ",\n  " + shared + "\n]\n");
  const auto chat = open_corpus(options_for("chat", {dir / "m.jsonl"}));
  ASSERT_EQ(chat->size(), 2);
  EXPECT_EQ(chat->read(1).text, "S\n\nQ\n\nA [1] \" {");
  const auto share = open_corpus(options_for("sharegpt", {dir / "s.json"}));
  ASSERT_EQ(share->size(), 2);
  const Document document = share->read(1);
  EXPECT_EQ(document.text, "S\n\nQ\nq\n\nA");
  ASSERT_EQ(document.messages.size(), 3U);
  EXPECT_EQ(document.messages[1].role, "user");
  EXPECT_EQ(document.messages[2].role, "assistant");

  write(dir / "bad.json",
        "[\n" + shared + ",\n{\"conversations\": [{\"from\": \"robot\", \"value\": \"x\"}]}]");
  const auto bad = open_corpus(options_for("sharegpt", {dir / "bad.json"}));
  const std::string message = message_of([&] { bad->read(1); });
  EXPECT_THAT(message, HasSubstr("bad.json:3"));
  EXPECT_THAT(message, HasSubstr("robot"));
}

TEST(Corpus, WhatCannotBeReadSaysWhatToDo) {
  const TempDir dir;
  const auto open = [&](const std::string& kind, const std::string& file) {
    return message_of([&] { open_corpus(options_for(kind, {dir / file})); });
  };
  EXPECT_THAT(open("plain", "none.txt"), HasSubstr("none.txt"));
  write(dir / "empty.txt", "\n \n");
  EXPECT_THAT(open("plain", "empty.txt"), HasSubstr("the corpus is empty"));
  write(dir / "x.parquet", "PAR1....");
  EXPECT_THAT(open("jsonl", "x.parquet"), HasSubstr("to_json"));
  write(dir / "x.jsonl.gz", "\x1f\x8b....");
  EXPECT_THAT(open("jsonl", "x.jsonl.gz"), HasSubstr("gunzip"));
  write(dir / "cut.json", "[{\"messages\": []},\n{\"messages\": [");
  EXPECT_THAT(open("chat", "cut.json"), HasSubstr("cut.json:2"));
  EXPECT_THAT(message_of([&] { open_corpus(options_for("plain", {dir.path()})); }),
              HasSubstr("is a folder"));
}

// Records longer than a block, and records that straddle blocks, come out whole.
TEST(Corpus, RecordsAreIndependentOfBlocks) {
  const TempDir dir;
  std::string text;
  std::vector<std::string> lines;
  Random random(5);
  for (int i = 0; i < 40; ++i) {
    lines.push_back(std::string(1 + random.below(200000), static_cast<char>('a' + i % 26)));
    text += lines.back() + "\n";
  }
  write(dir / "big.txt", text);
  const RecordFile file(dir / "big.txt", RecordLayout::kLines);
  ASSERT_EQ(file.size(), 40);
  for (int i = 39; i >= 0; --i) EXPECT_EQ(file.read(i), lines[static_cast<size_t>(i)]);
  EXPECT_THAT(file.place(17), HasSubstr("big.txt:18"));
}

TEST(Corpus, TheHashIsOfContentsAndOrder) {
  const TempDir dir;
  write(dir / "a.txt", "one\n");
  write(dir / "b.txt", "two\n");
  const auto hash = [&](const std::vector<std::filesystem::path>& files) {
    return open_corpus(options_for("plain", files))->describe()["sha256"].get<std::string>();
  };
  EXPECT_EQ(hash({dir / "a.txt", dir / "b.txt"}), hash({dir / "a.txt", dir / "b.txt"}));
  EXPECT_NE(hash({dir / "a.txt", dir / "b.txt"}), hash({dir / "b.txt", dir / "a.txt"}));
}

TEST(Corpus, TheBuiltInOneRepeatsItselfAndKeepsSplitsApart) {
  DataOptions options = options_for("synthetic", {});
  options.synthetic.documents = 50;
  const auto a = open_corpus(options), b = open_corpus(options);
  options.split = "heldout";
  const auto held_out = open_corpus(options);
  ASSERT_EQ(a->size(), 50);
  std::set<std::string> texts;
  for (int64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(a->read(i).text, b->read(i).text);
    EXPECT_FALSE(a->read(i).text.empty());
    texts.insert(a->read(i).text);
  }
  EXPECT_GT(texts.size(), 45U);
  for (int64_t i = 0; i < 50; ++i) EXPECT_EQ(texts.count(held_out->read(i).text), 0U);
  EXPECT_NE(a->describe(), held_out->describe());
}

TEST(Corpus, NaturalEnglishForRealModels) {
  DataOptions options = options_for("synthetic", {});
  options.synthetic.style = "english";
  options.synthetic.documents = 200;
  const auto corpus = open_corpus(options);
  std::set<std::string> texts;
  for (int64_t i = 0; i < 200; ++i) {
    EXPECT_EQ(corpus->read(i).text, corpus->read(i).text);
    EXPECT_GT(corpus->read(i).text.size(), 20U);
    texts.insert(corpus->read(i).text);
  }
  EXPECT_GT(texts.size(), 150U);
  options.split = "heldout";
  const auto held_out = open_corpus(options);
  for (int64_t i = 0; i < 200; ++i) EXPECT_EQ(texts.count(held_out->read(i).text), 0U);
}

TEST(Shuffle, IsAPermutationOfAnySize) {
  for (int64_t n : {1, 2, 3, 7, 64, 1000, 4097}) {
    const Shuffle shuffle(n, 3), again(n, 3), other(n, 4);
    std::set<int64_t> seen;
    int64_t fixed = 0, same = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t j = shuffle(i);
      EXPECT_EQ(j, again(i));
      ASSERT_GE(j, 0);
      ASSERT_LT(j, n);
      seen.insert(j);
      fixed += i == j;
      same += j == other(i);
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), n);
    if (n >= 64) {
      EXPECT_LT(fixed, 10);
      EXPECT_LT(same, 10);
    }
  }
}

}  // namespace
}  // namespace kvlingua
