#include "eval/report/faces.h"

#include <gtest/gtest.h>

#include <fstream>

#include "eval/report/html_parts.h"
#include "support/eval_pair.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using testing::nano_probes;
using testing::SelfPair;

Evaluation small_evaluation(std::vector<Probe> probes) {
  const SelfPair pair(Architecture::kQwen3);
  EvaluationInput input =
      pair.input(std::move(probes), {"same_cache", "noise", "shuffled", "identity"});
  input.options.latency = input.options.fidelity = true;
  input.limit = 6;
  return run_evaluation(input);
}

TEST(Report, HasTheContractsFields) {
  auto probes = nano_probes("counterfact", 6);
  Probe shown{.id = "mine",
              .family = "cases",
              .context = "I am <Lyra>.",
              .prompt = "Who & what are you?",
              .markers = {"<Lyra>"}};
  shown.group = "mine";
  probes.push_back(shown);
  probes.push_back(shown);
  probes.back().id = "other";
  probes.back().context = "I am Zephyr.";
  probes.back().markers = {"Zephyr"};
  const Report typed = small_evaluation(probes).report;
  const auto report = typed.to_json();
  const auto& cell = report["conditions"]["identity"]["families"]["counterfact"];
  for (const char* key : {"success", "stalled", "injected", "parametric", "other"})
    for (const char* part : {"rate", "low", "high"})
      EXPECT_TRUE(cell[key].contains(part)) << key << "." << part;
  EXPECT_EQ(cell["n"], 6);
  EXPECT_TRUE(cell["tokens_generated"].is_number());
  EXPECT_TRUE(report["cases"]["mine"]["full_text"]["text"].is_string());
  EXPECT_TRUE(report["cases"]["mine"]["full_text"]["markers"].is_array());
  EXPECT_EQ(report["fidelity"]["layers"].size(), 3u);
  // The same model through the identity projector: nothing is lost.
  EXPECT_NEAR(report["fidelity"]["layers"][1]["key_r2"].get<double>(), 1, 1e-6);
  EXPECT_NEAR(report["fidelity"]["layers"][2]["attention_output_cosine"].get<double>(), 1, 1e-5);
  EXPECT_NEAR(report["fidelity"]["layers"][2]["hidden_drift"].get<double>(), 0, 1e-4);
  for (const char* key : {"prefill_ms", "translate_ms", "ttft_ratio", "bytes"})
    EXPECT_TRUE(report["latency"][key].is_number()) << key;
  EXPECT_TRUE(report["retention"]["nll"].is_number());
  for (const char* name : {"identity", "stalling", "parametric_knowledge"})
    for (const char* key : {"verdict", "statistic", "low", "high", "threshold", "n"})
      EXPECT_TRUE(report["criteria"][name].contains(key)) << name;
  EXPECT_TRUE(report["quick_look"].get<bool>());

  const std::string html = report_html(typed), markdown = report_markdown(typed);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("<Lyra>"), std::string::npos) << "text must be escaped";
  EXPECT_NE(html.find("&lt;Lyra&gt;"), std::string::npos);
  EXPECT_NE(html.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_EQ(html.find("http://"), std::string::npos);
  EXPECT_EQ(html.find("https://"), std::string::npos);
  EXPECT_NE(html.find("A quick look"), std::string::npos);
  EXPECT_NE(markdown.find("A quick look"), std::string::npos);
  for (const std::string& face : {html, markdown}) {
    EXPECT_NE(face.find("a name and a place that only the source has read"), std::string::npos);
    EXPECT_NE(face.find("Not claimed: "), std::string::npos);
    EXPECT_NE(face.find("fresh items or with another training seed"), std::string::npos);
  }
  for (const char* tag : {"<div", "<svg", "<table", "<section", "<summary", "<details"}) {
    size_t opened = 0, closed = 0;
    const std::string end = "</" + std::string(tag + 1);
    for (size_t at = html.find(tag); at != std::string::npos; at = html.find(tag, at + 1)) ++opened;
    for (size_t at = html.find(end); at != std::string::npos; at = html.find(end, at + 1)) ++closed;
    EXPECT_EQ(opened, closed) << tag;
    EXPECT_GT(opened, 0u) << tag;
  }
}

TEST(Report, SurvivesBytesThatAreNoText) {
  Report report = small_evaluation(nano_probes("identity", 4)).report;
  report.examples[0].answers[0].text = "cut \xE2\x82 here";
  const TempDir folder;
  write_report(report, folder.path());
  for (const char* name : {"report.json", "report.md", "report.html"})
    EXPECT_TRUE(std::filesystem::exists(folder.path() / name)) << name;
  EXPECT_TRUE(nlohmann::json::accept(std::ifstream(folder.path() / "report.json")));
}

TEST(Highlighting, MarksWholeWordsOfEscapedText) {
  EXPECT_EQ(report::highlighted("a<b Lyra LYRA Lyrae", {"Lyra"}, {}),
            "a&lt;b <mark>Lyra</mark> <mark>LYRA</mark> Lyrae");
  EXPECT_EQ(report::highlighted("not Paris", {}, {"Paris"}),
            "not <mark class=\"known\">Paris</mark>");
}

}  // namespace
}  // namespace kvlingua
