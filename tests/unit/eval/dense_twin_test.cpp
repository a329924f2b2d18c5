// What quantising a target costs: its full_text against that of its dense twin.
#include "eval/answers/dense_twin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "eval/report/faces.h"
#include "support/eval_pair.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using testing::nano_probes;
using testing::SelfPair;

// The pair's own model stands for the target; the twin is another one or the same.
struct Twin {
  SelfPair pair{Architecture::kQwen2};
  CausalLM other;
  Reader reader;
  int64_t opened = 0;

  explicit Twin(uint64_t seed)
      : other(testing::small_model(Architecture::kQwen2, seed)),
        reader(Reader::make(other, TextReader::of(testing::small_tokenizer(), {.chat = "smollm2"},
                                                  other.config()))) {}
  EvaluationInput input(const std::filesystem::path& folder = {}) {
    EvaluationInput in = pair.input(nano_probes("identity", 12), {"same_cache", "identity"});
    in.folder = folder;
    in.twin = DenseTwin{"nf4 (double)", [this](std::string&) {
                          ++opened;
                          return &reader;
                        }};
    return in;
  }
};

TEST(DenseTwin, AModelAgainstItselfCostsNothing) {
  Twin twin(1);
  const Report report = run_evaluation(twin.input()).report;
  ASSERT_TRUE(report.quantisation);
  EXPECT_EQ(report.quantisation->n, 12);
  EXPECT_EQ(report.quantisation->equal, 12);
  EXPECT_NEAR(report.quantisation->nll_difference.mean, 0, 1e-5);
  EXPECT_EQ(report.quantisation->exact.mean, 0);
  ASSERT_NE(report.condition(kFullTextDense), nullptr);
  EXPECT_THAT(report.condition(kFullTextDense)->definition, ::testing::HasSubstr("weights dense"));
}

TEST(DenseTwin, AnotherModelShowsAndStandsInEveryFace) {
  Twin twin(5);
  const Report report = run_evaluation(twin.input()).report;
  ASSERT_TRUE(report.quantisation);
  EXPECT_LT(report.quantisation->equal, 12);
  EXPECT_NE(report.quantisation->nll_difference.mean, 0);
  const auto json = report.to_json();
  EXPECT_EQ(json["quantisation"]["weights"], "nf4 (double)");
  EXPECT_EQ(json["quantisation"]["n"], 12);
  EXPECT_TRUE(json["conditions"].contains("full_text_dense"));
  EXPECT_NEAR(json["quantisation"]["nll_difference"]["mean"].get<double>(),
              report.quantisation->nll_quantised - report.quantisation->nll_dense, 1e-9);
  for (const std::string& face : {report_markdown(report), report_html(report)}) {
    EXPECT_THAT(face, ::testing::HasSubstr("What quantising the target costs"));
    EXPECT_THAT(face, ::testing::HasSubstr("nf4 (double)"));
  }
}

TEST(DenseTwin, AnswersAreKeptAndTheTwinNotOpenedAgain) {
  const TempDir folder;
  Twin twin(5);
  const auto first = run_evaluation(twin.input(folder.path())).report.to_json();
  const auto again = run_evaluation(twin.input(folder.path())).report.to_json();
  EXPECT_EQ(twin.opened, 1);
  EXPECT_EQ(again["quantisation"], first["quantisation"]);
  EXPECT_TRUE(std::filesystem::exists(folder / "full_text_dense.jsonl"));
}

TEST(DenseTwin, WithoutRoomTheReportSaysSo) {
  Twin twin(5);
  EvaluationInput in = twin.input();
  in.twin->open = [](std::string& why_not) -> const Reader* {
    why_not = "its dense weights take 14 GiB, 3 GiB are free beside the pair";
    return nullptr;
  };
  const Report report = run_evaluation(in).report;
  EXPECT_FALSE(report.quantisation);
  EXPECT_EQ(report.condition(kFullTextDense), nullptr);
  const auto found = std::ranges::find(report.findings, "no_dense_twin", &Finding::name);
  ASSERT_NE(found, report.findings.end());
  EXPECT_FALSE(found->withholds);
  EXPECT_THAT(found->text, ::testing::HasSubstr("14 GiB"));
}

}  // namespace
}  // namespace kvlingua
