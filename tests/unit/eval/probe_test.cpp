#include "eval/items/probe.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

std::string refusal(const std::function<void()>& action, ExitCode code = ExitCode::kInput) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return {};
}

std::string refusal_of(const std::string& yaml) {
  return refusal([&] { parse_probes(yaml, "mine.yaml", "mine"); });
}

TEST(Probes, PhaseTwoAIsExact) {
  const auto probes =
      read_probes(std::filesystem::path(KVLINGUA_SOURCE_DIR) / "eval/probes/phase2a.yaml", "cases");
  ASSERT_EQ(probes.size(), 5u);
  EXPECT_EQ(probes[0].id, "identity_transfer");
  EXPECT_EQ(probes[0].context, "Hello, my name is Lyra and I live in Seattle.");
  EXPECT_EQ(probes[0].prompt, "What is your name and where do you live?");
  EXPECT_EQ(probes[0].markers, (std::vector<std::string>{"Lyra", "Seattle"}));
  EXPECT_EQ(probes[1].context, "The capital of France is Paris...");
  EXPECT_EQ(probes[2].markers, (std::vector<std::string>{"100", "celsius"}));
  EXPECT_EQ(probes[3].markers, (std::vector<std::string>{"Paris", "Zephyr"}));
  EXPECT_TRUE(probes[3].completion);
  EXPECT_EQ(probes[4].prompt, "The chemical formula for water is");
  EXPECT_EQ(probes[4].markers, (std::vector<std::string>{"H2O", "Aurora", "glass"}));
}

TEST(Probes, RefusalsNameFileAndPlace) {
  const std::string good = "  - {id: a, context: I am Lyra., prompt: \"Who?\", markers: [Lyra]}\n";
  EXPECT_EQ(parse_probes("probes:\n" + good, "mine.yaml", "mine").size(), 1u);

  const std::string no_markers =
      refusal_of("probes:\n" + good + "  - {id: b, context: I am Lyra., prompt: \"Who?\"}\n");
  EXPECT_NE(no_markers.find("mine.yaml: probe b"), std::string::npos) << no_markers;
  EXPECT_NE(no_markers.find("no markers"), std::string::npos) << no_markers;

  const std::string leak = refusal_of(
      "probes:\n  - {id: b, context: I am Lyra., prompt: \"Are you Lyra?\", markers: [lyra]}\n");
  EXPECT_NE(leak.find("answer is already in the question"), std::string::npos) << leak;

  const std::string unknown =
      refusal_of("probes:\n  - {id: b, contxt: I am Lyra., prompt: \"Who?\", markers: [Lyra]}\n");
  EXPECT_NE(unknown.find("mine.yaml:2:"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("contxt"), std::string::npos) << unknown;

  EXPECT_NE(refusal_of("probes:\n" + good + good).find("id given twice"), std::string::npos);
  EXPECT_NE(refusal_of("probes: []\n").find("no probes"), std::string::npos);
  EXPECT_NE(refusal_of("pair: {}\n").find("not a probe file"), std::string::npos);
  EXPECT_NE(refusal_of("probes: [a, {\n").find("YAML"), std::string::npos);
  EXPECT_NE(refusal_of("probes:\n  - {id: b, context: c, prompt: q, markers: [x], form: song}\n")
                .find("form"),
            std::string::npos);
  EXPECT_NE(
      refusal_of(
          "probes:\n  - {id: b, context: c, prompt: q, markers: [New York], parametric: [York]}\n")
          .find("told apart"),
      std::string::npos);
  EXPECT_NE(refusal([] { read_probes("/nonexistent/p.yaml", "x"); }).find("/nonexistent/p.yaml"),
            std::string::npos);
}

TEST(Probes, CounterFactBecomesCompletions) {
  const std::string json =
      R"([{"case_id": 7, "requested_rewrite": {"prompt": "The mother tongue of {} is", "subject": "Danielle Darrieux",
      "target_new": {"str": "English"}, "target_true": {"str": "French"}}}])";
  const auto probes = parse_counterfact(json, "cf.json");
  ASSERT_EQ(probes.size(), 1u);
  EXPECT_EQ(probes[0].context, "The mother tongue of Danielle Darrieux is English.");
  EXPECT_EQ(probes[0].prompt, "The mother tongue of Danielle Darrieux is");
  EXPECT_TRUE(probes[0].completion);
  EXPECT_EQ(probes[0].markers[0], "English");
  EXPECT_EQ(probes[0].parametric[0], "French");
  EXPECT_NE(refusal([&] { parse_counterfact("{}", "cf.json"); }).find("cf.json"),
            std::string::npos);
  EXPECT_NE(refusal([&] { parse_counterfact("[{}]", "cf.json"); }).find("record 0"),
            std::string::npos);
  EXPECT_NE(refusal([&] { parse_counterfact("[", "cf.json"); }).find("JSON"), std::string::npos);
}

TEST(Probes, EveryBuiltInFamilyPassesItsOwnCheck) {
  for (const auto& family : family_names())
    for (bool completion : {false, true})
      for (FamilyStyle style : {FamilyStyle::kNano, FamilyStyle::kEnglish}) {
        std::vector<Probe> probes;
        for (const auto& item : make_family(
                 {.family = family, .completion = completion, .n = 200, .seed = 1, .style = style}))
          probes.push_back(to_probe(item));
        EXPECT_NO_THROW(check_probes(probes, family));
      }
}

}  // namespace
}  // namespace kvlingua
