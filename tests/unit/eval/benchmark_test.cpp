#include "eval/benchmarks/benchmark.h"

#include <gtest/gtest.h>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

ChoiceSet parse(const std::string& kind, const std::string& text,
                const std::string& gold = "correct", bool csv = false) {
  BenchmarkOptions options;
  options.kind = kind;
  options.gold = gold;
  return parse_choices(text, csv, options, "file");
}

const std::string kMmlu =
    R"({"question": "1+1?", "choices": ["1", "2", "3", "4"], "answer": 1, "error_type": "ok", "correct_answer": null}
{"question": "wrong label", "choices": ["a", "b", "c", "d"], "answer": 0, "error_type": "wrong_groundtruth", "correct_answer": "2"}
{"question": "unclear", "choices": ["a", "b", "c", "d"], "answer": 3, "error_type": "bad_question_clarity", "correct_answer": null}
{"question": "none", "choices": ["a", "b", "c", "d"], "answer": 3, "error_type": "no_correct_answer", "correct_answer": null}
)";

TEST(Benchmarks, MmluReduxGold) {
  const ChoiceSet correct = parse("mmlu_redux", kMmlu);
  ASSERT_EQ(correct.items.size(), 2u);  // the unclear one is not to be trusted
  EXPECT_EQ(correct.skipped, 2);
  EXPECT_EQ(correct.items[0].gold, 1u);
  EXPECT_EQ(correct.items[1].gold, 2u);
  const ChoiceSet peer = parse("mmlu_redux", kMmlu, "c2c");
  ASSERT_EQ(peer.items.size(), 3u);  // flagged items but two kinds stay in
  EXPECT_EQ(peer.items[2].gold, 3u);
}

TEST(Benchmarks, ArcKeysMayBeNumbers) {
  const std::string text =
      R"({"question": "q", "choices": {"text": ["w", "x", "y", "z"], "label": ["1", "2", "3", "4"]}, "answerKey": "3"}
{"question": "q", "choices": {"text": ["w", "x", "y", "z"], "label": ["A", "B", "C", "D"]}, "answerKey": "B"}
)";
  const ChoiceSet correct = parse("arc_c", text);
  ASSERT_EQ(correct.items.size(), 2u);
  EXPECT_EQ(correct.items[0].gold, 2u);
  const ChoiceSet peer = parse("arc_c", text, "c2c");
  ASSERT_EQ(peer.items.size(), 1u);
  EXPECT_EQ(peer.skipped, 1);
}

TEST(Benchmarks, OtherPublishedFields) {
  EXPECT_EQ(
      parse(
          "openbookqa",
          R"({"question_stem": "q", "choices": {"text": ["a", "b", "c", "d"], "label": ["A", "B", "C", "D"]}, "answerKey": "D"})")
          .items[0]
          .gold,
      3u);
  EXPECT_EQ(
      parse(
          "openbookqa",
          R"({"question": {"stem": "q", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]}, "answerKey": "B"})")
          .items[0]
          .gold,
      1u);
  EXPECT_EQ(parse("hellaswag", R"({"ctx": "He", "endings": ["runs", "sits"], "label": "1"})")
                .items[0]
                .gold,
            1u);
  const ChoiceSet ceval =
      parse("ceval", "id,question,A,B,C,D,answer\n0,\"eins, zwei\",\"a \"\"b\"\"\",x,y,z,C\r\n",
            "correct", true);
  EXPECT_EQ(ceval.items[0].question, "eins, zwei");
  EXPECT_EQ(ceval.items[0].options[0], "a \"b\"");
  EXPECT_EQ(ceval.items[0].gold, 2u);
  // As Excel saves it: the mark is no part of the first column's name.
  const ChoiceSet marked =
      parse("ceval", "\xef\xbb\xbfquestion,A,B,C,D,answer\r\nq,a,b,c,d,B\r\n", "correct", true);
  EXPECT_EQ(marked.items.at(0).gold, 1u);
}

std::string refusal(const std::string& kind, const std::string& text, bool csv = false) {
  try {
    parse(kind, text, "correct", csv);
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == ExitCode::kInput || error.code() == ExitCode::kCorrupt);
    return error.what();
  }
  ADD_FAILURE() << "not refused";
  return {};
}

TEST(Benchmarks, RefusalsNameTheLine) {
  EXPECT_NE(refusal("arc_c", "\n{\"question\": \"q\"}").find("file:2"), std::string::npos);
  EXPECT_NE(refusal("arc_c", "{").find("file:1"), std::string::npos);
  EXPECT_NE(refusal("mmlu_redux", R"({"question": "q", "choices": ["a", "b"], "answer": 7})")
                .find("none of the options"),
            std::string::npos);
  EXPECT_NE(refusal("ceval", "question,A\n\"open", true).find("never closed"), std::string::npos);
  EXPECT_NE(refusal("hellaswag", R"({"ctx": "He", "endings": ["runs", "sits"], "label": ""})")
                .find("no usable question"),
            std::string::npos);
}

TEST(Extraction, DefaultWantsAClearChoice) {
  EXPECT_EQ(extract_choice("B", 4, false), 1);
  EXPECT_EQ(extract_choice("(C) Cairo", 4, false), 2);
  EXPECT_EQ(extract_choice("The correct answer is D.", 4, false), 3);
  EXPECT_EQ(extract_choice("It could be A, or B", 4, false), -1);
  EXPECT_EQ(extract_choice("a dog", 4, false), -1);
  EXPECT_EQ(extract_choice("The answer is F", 10, false), 5)
      << "more than four options are options too";
  EXPECT_EQ(extract_choice("The answer is F", 10, true), -1) << "the peer knows A to D only";
}

}  // namespace
}  // namespace kvlingua
