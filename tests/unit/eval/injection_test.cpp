// What injection promises, on random decoders of three architectures: lossless where it must be,
// broken where it must be, and the same whatever the batch, the order, and the number of
// interruptions.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "kvlingua/base/error.h"
#include "kvlingua/base/stop_signal.h"
#include "support/eval_pair.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using testing::nano_probes;
using testing::SelfPair;

class EveryArchitecture : public ::testing::TestWithParam<Architecture> {};

std::vector<Probe> mixed_probes() {
  std::vector<Probe> probes = nano_probes("identity", 10);
  for (auto& probe : nano_probes("counterfact", 8, true)) probes.push_back(probe);
  return probes;
}

const ControlCheck* control(const std::vector<ControlCheck>& checks, const std::string& name) {
  const auto found = std::find_if(checks.begin(), checks.end(),
                                  [&](const auto& check) { return check.control == name; });
  return found == checks.end() ? nullptr : &*found;
}

double mean_kl_of(const Answers& answers, const std::string& condition) {
  double sum = 0, n = 0;
  for (const Answer* answer : answers.of(condition)) {
    if (std::isnan(answer->kl)) continue;
    sum += answer->kl;
    ++n;
  }
  return n > 0 ? sum / n : std::nan("");
}

TEST_P(EveryArchitecture, LosslessConditionsEqualReadingTheText) {
  const SelfPair pair(GetParam());
  const auto probes = mixed_probes();
  const Evaluation result = run_evaluation(
      pair.input(probes, {"same_cache", "raw", "raw_shifted", "raw_rerotated", "identity"}));
  const auto checks = check_controls(result.answers);
  for (const char* name : {"same_cache", "raw", "raw_rerotated"}) {
    const ControlCheck* check = control(checks, name);
    ASSERT_NE(check, nullptr) << name;
    EXPECT_EQ(check->n, static_cast<int64_t>(probes.size())) << name;
    EXPECT_EQ(check->equal, check->n) << name;
  }
  int64_t equal = 0, told_apart = 0;
  for (const Answer* answer : result.answers.of("identity")) {
    equal += answer->ids == result.answers.find("full_text", answer->item)->ids;
    told_apart += answer->ids != result.answers.find("baseline", answer->item)->ids;
  }
  EXPECT_EQ(equal, static_cast<int64_t>(probes.size()));
  EXPECT_GT(told_apart, 0)
      << "a model that answers the same with and without context would prove nothing";
  EXPECT_LT(mean_kl_of(result.answers, "same_cache"), 1e-6);
  EXPECT_LT(mean_kl_of(result.answers, "raw_rerotated"), 1e-5);
  // Unrepaired, the same cache is wrong, and more so the further it was moved from one position to
  // eight.
  const double one = mean_kl_of(result.answers, "raw_shifted_1"),
               eight = mean_kl_of(result.answers, "raw_shifted_8");
  EXPECT_GT(one, 1e-4);
  EXPECT_GT(eight, one);
  EXPECT_GT(mean_kl_of(result.answers, "raw_shifted"), one);
}

// In half precision a text read in other steps than a cache rounds otherwise: 16 of 605 answers of
// a real pair differed. Here both go through passes of the same rows, so they are equal to the bit.
TEST_P(EveryArchitecture, AnInjectedCacheEqualsTheTextInBfloat16) {
  LoadOptions load;
  load.dtype = at::kBFloat16;
  const SelfPair pair(GetParam(), load);
  const auto probes = nano_probes("identity", 40);
  EvaluationInput input = pair.input(probes, {"noise", "same_cache", "identity"});
  for (const int64_t batch : {32, 5}) {
    input.options.batch_size = batch;
    const Evaluation result = run_evaluation(input);
    for (const Answer* answer : result.answers.of("same_cache")) {
      const Answer* text = result.answers.find("full_text", answer->item);
      EXPECT_EQ(answer->ids, text->ids) << answer->item;
      EXPECT_EQ(answer->logprob, text->logprob) << answer->item;
      EXPECT_EQ(answer->nll_answer, text->nll_answer) << answer->item;
    }
  }
}

TEST_P(EveryArchitecture, ControlsSayNothingOfTheContext) {
  const SelfPair pair(GetParam());
  const Evaluation result =
      run_evaluation(pair.input(mixed_probes(), {"same_cache", "noise", "shuffled", "averaged",
                                                 "wrong_text", "identity", "text_message"}));
  for (const char* name : {"noise", "shuffled", "averaged", "wrong_text"}) {
    EXPECT_GT(mean_kl_of(result.answers, name), 1e-3) << name;
    int64_t same = 0;
    for (const Answer* answer : result.answers.of(name))
      same += answer->ids == result.answers.find("full_text", answer->item)->ids;
    EXPECT_LT(same, 9) << name;
  }
  for (const Finding& finding : result.report.findings)
    EXPECT_FALSE(finding.withholds) << finding.name << ": " << finding.text;
  EXPECT_EQ(result.answers.of("text_message").size(), result.answers.of("full_text").size());
}

INSTANTIATE_TEST_SUITE_P(Models, EveryArchitecture,
                         ::testing::Values(Architecture::kQwen2, Architecture::kQwen3,
                                           Architecture::kLlama),
                         [](const auto& info) { return to_string(info.param).substr(0, 5); });

// A section of report.json, to compare or to print.
std::string part_of(const Evaluation& result, const char* section) {
  return result.report.to_json()[section].dump();
}

void expect_same_answers(const Answers& first, const Answers& second) {
  ASSERT_EQ(first.size(), second.size());
  for (const auto& condition : {"baseline", "full_text", "same_cache", "raw", "raw_text", "noise",
                                "shuffled", "averaged", "identity"})
    for (const Answer* answer : first.of(condition)) {
      const Answer* other = second.find(condition, answer->item);
      ASSERT_NE(other, nullptr) << condition << " " << answer->item;
      EXPECT_EQ(answer->ids, other->ids) << condition << " " << answer->item;
      EXPECT_EQ(answer->text, other->text);
      EXPECT_NEAR(answer->logprob, other->logprob, 1e-4);
      if (!std::isnan(answer->nll_answer)) {
        EXPECT_NEAR(answer->nll_answer, other->nll_answer, 1e-4);
      }
      if (!std::isnan(answer->kl)) {
        EXPECT_NEAR(answer->kl, other->kl, 1e-4);
      }
    }
}

const std::vector<std::string> kConditions = {"same_cache", "raw",      "noise",
                                              "shuffled",   "averaged", "identity"};

TEST(Scores, DoNotDependOnBatchOrOrder) {
  const SelfPair pair(Architecture::kQwen3);
  auto probes = nano_probes("identity", 40);
  EvaluationInput input = pair.input(probes, kConditions);
  input.options.batch_size = 32;
  const Evaluation reference = run_evaluation(input);
  for (int64_t batch : {1, 8}) {
    input.options.batch_size = batch;
    const Evaluation again = run_evaluation(input);
    expect_same_answers(reference.answers, again.answers);
    EXPECT_EQ(again.report.criterion("identity")->verdict,
              reference.report.criterion("identity")->verdict);
  }
  std::reverse(input.probes.begin(), input.probes.end());
  expect_same_answers(reference.answers, run_evaluation(input).answers);
}

// Asks the run to stop when it is given its n-th item, then behaves as full_text does.
class Interrupting : public Condition {
 public:
  Interrupting() : Condition("averaged", "a planted interruption") {}
  Given give(Block& block, size_t i) const override {
    request_stop(SIGTERM);
    return as_text(block, i, block.item(i).span);
  }
};

TEST(Resume, GoesOnWhereItWasStopped) {
  const SelfPair pair(Architecture::kLlama);
  const TempDir folder;
  const auto probes = nano_probes("needle", 40);
  EvaluationInput input = pair.input(probes, kConditions);
  const Evaluation whole = run_evaluation(input);

  input.folder = folder.path();
  {
    // Killed in the middle of a line: what came before counts, the torn line does not.
    const Evaluation first = run_evaluation(input);
    EXPECT_EQ(first.resumed, 0);
    std::ifstream in(folder.path() / "generations.jsonl", std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    std::ofstream(folder.path() / "generations.jsonl", std::ios::binary | std::ios::trunc)
        << bytes.substr(0, bytes.size() * 2 / 5);
  }
  const Evaluation second = run_evaluation(input);
  EXPECT_GT(second.resumed, 0);
  EXPECT_GT(second.generated, 0);
  EXPECT_EQ(second.resumed + second.generated, static_cast<int64_t>(whole.answers.size()));
  expect_same_answers(whole.answers, second.answers);
  EXPECT_EQ(part_of(second, "criteria"), part_of(whole, "criteria"));
  const Evaluation third = run_evaluation(input);
  EXPECT_EQ(third.generated, 0);
  EXPECT_EQ(part_of(third, "criteria"), part_of(whole, "criteria"));
  EXPECT_EQ(part_of(third, "findings"), part_of(whole, "findings"));

  // Another setting that changes answers starts anew; one that does not, resumes.
  input.options.batch_size = 3;
  EXPECT_EQ(run_evaluation(input).generated, 0);
  input.options.max_new_tokens = 5;
  EXPECT_EQ(run_evaluation(input).resumed, 0);
}

TEST(Resume, OneProcessTakesOverWhatAnotherRankLeft) {
  const SelfPair pair(Architecture::kQwen2);
  const TempDir folder;
  EvaluationInput input = pair.input(nano_probes("identity", 40), {"same_cache", "identity"});
  const Evaluation whole = run_evaluation(input);
  input.folder = folder.path();
  input.world = {.rank = 1, .size = 2};
  const Evaluation part = run_evaluation(input);
  EXPECT_FALSE(part.joined);
  EXPECT_EQ(part.generated, 8 * 4) << "the second block of two";
  input.world = {};
  const Evaluation rest = run_evaluation(input);
  EXPECT_EQ(rest.resumed, part.generated);
  expect_same_answers(whole.answers, rest.answers);
  EXPECT_EQ(part_of(rest, "criteria"), part_of(whole, "criteria"));
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    left.push_back(entry.path().filename().string());
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<std::string>{"generations.jsonl", "probes.jsonl"}));
  EXPECT_EQ(run_evaluation(input).resumed, 40 * 4);
}

TEST(Resume, AStopSignalKeepsWhatWasGenerated) {
  const SelfPair pair(Architecture::kLlama);
  const TempDir folder;
  EvaluationInput input = pair.input(nano_probes("identity", 6), {"same_cache", "identity"});
  input.folder = folder.path();
  std::vector<std::unique_ptr<Condition>> extra;
  extra.push_back(std::make_unique<Interrupting>());
  input.extra = &extra;
  try {
    run_evaluation(input);
    ADD_FAILURE() << "was not stopped";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kTerminated);
  }
  request_stop(0);
  extra.clear();
  extra.push_back(std::make_unique<Interrupting>());
  const Evaluation again =
      run_evaluation(input);  // the planted condition was answered before it was stopped
  request_stop(0);
  EXPECT_EQ(again.generated, 0);
  EXPECT_EQ(again.resumed, 6 * 5);
}

// A condition that cannot be made for one of the items.
class Failing : public Condition {
 public:
  Failing() : Condition("averaged", "planted: fails the seventieth time") {}
  Given give(Block& block, size_t i) const override {
    if (++given_ == 70) throw Error({.code = ExitCode::kCorrupt, .what = "planted"});
    return as_text(block, i, block.item(i).span);
  }

 private:
  mutable std::atomic<int> given_ = 0;
};

TEST(Workers, ChangeNothingOfTheReport) {
  const SelfPair pair(Architecture::kQwen3);
  EvaluationInput input = pair.input(nano_probes("identity", 150), kConditions);
  input.options.fidelity = true;
  const Evaluation one = run_evaluation(input);
  input.workers = 3;
  const Evaluation three = run_evaluation(input);
  expect_same_answers(one.answers, three.answers);
  for (const char* section : {"criteria", "findings", "controls", "fidelity", "ladder", "examples"})
    EXPECT_EQ(part_of(one, section), part_of(three, section)) << section;
}

TEST(Workers, WhatOneThrowsEndsTheRun) {
  const SelfPair pair(Architecture::kLlama);
  const TempDir folder;
  EvaluationInput input = pair.input(nano_probes("identity", 100), {"same_cache", "identity"});
  input.folder = folder.path();
  input.workers = 2;
  std::vector<std::unique_ptr<Condition>> extra;
  extra.push_back(std::make_unique<Failing>());
  input.extra = &extra;
  try {
    run_evaluation(input);
    ADD_FAILURE() << "the planted condition fails";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCorrupt);
  }
  extra.clear();
  extra.push_back(std::make_unique<Failing>());
  EXPECT_GT(run_evaluation(input).resumed, 0) << "what was made before is kept";
}

// A control that hands over the very cache it must differ from.
class BrokenNoise : public Condition {
 public:
  BrokenNoise() : Condition("noise", "planted: no noise at all") {}
  const KvCache* must_differ_from(Block& block, size_t i) const override { return &block.own(i); }
  Given give(Block& block, size_t i) const override {
    return after_span(block, i, block.own(i), "own");
  }
};

// A same-cache control that is none: the cache stands where it was not made.
class BrokenSameCache : public Condition {
 public:
  BrokenSameCache() : Condition("same_cache", "planted: shifted") {}
  Given give(Block& block, size_t i) const override {
    Given given = after_span(block, i, block.own(i), "shifted");
    given.past = given.past.relabelled(given.past.positions() + 40);
    given.position += 40;
    return given;
  }
};

template <class Planted>
Evaluation with_planted(const SelfPair& pair) {
  std::vector<std::unique_ptr<Condition>> extra;
  extra.push_back(std::make_unique<Planted>());
  EvaluationInput input =
      pair.input(nano_probes("identity", 8), {"same_cache", "noise", "identity"});
  input.extra = &extra;
  return run_evaluation(input);
}

TEST(PlantedLeaks, BrokenControlsWithholdTheVerdict) {
  const SelfPair pair(Architecture::kQwen2);
  const auto finding = [](const Evaluation& result, const std::string& name) {
    for (const Finding& one : result.report.findings)
      if (one.name == name) return one.withholds;
    return false;
  };
  const Evaluation noise = with_planted<BrokenNoise>(pair);
  EXPECT_TRUE(finding(noise, "control_imitates")) << part_of(noise, "findings");
  EXPECT_FALSE(noise.gate_met);
  EXPECT_EQ(noise.report.criterion("identity")->verdict, Verdict::kInconclusive);
  const Evaluation same = with_planted<BrokenSameCache>(pair);
  EXPECT_TRUE(finding(same, "same_cache_differs")) << part_of(same, "findings");
  EXPECT_EQ(same.report.criterion("stalling")->verdict, Verdict::kInconclusive);
}

TEST(PlantedLeaks, ItemsTrainingHasSeen) {
  const auto probes = nano_probes("identity", 20);
  std::vector<std::string> texts{"Nothing of interest.",
                                 "A story. " + probes[7].context + " The end.",
                                 "Only " + probes[3].markers[0] + " is here."};
  size_t at = 0;
  const auto found = overlaps(probes, [&](std::string& text) {
    if (at == texts.size()) return false;
    text = texts[at++];
    return true;
  });
  ASSERT_EQ(found.size(), probes[3].markers.size() == 1 ? 2u : 1u);
  EXPECT_EQ(found[0].probe, 7u);
  EXPECT_EQ(found[0].document, 1);
  EXPECT_EQ(found[0].what, "context");
}

TEST(PlantedLeaks, RepeatedItemsAreNamed) {
  auto probes = nano_probes("identity", 5);
  EXPECT_TRUE(duplicate_items(probes).empty());
  probes.push_back(probes[2]);
  probes.back().id = "again";
  EXPECT_EQ(duplicate_items(probes), std::vector<std::string>{"again"});
  const SelfPair pair(Architecture::kQwen2);
  const Evaluation result = run_evaluation(pair.input(probes, {"same_cache", "identity"}));
  EXPECT_TRUE(result.report.found("duplicate_items")) << part_of(result, "findings");
  EXPECT_EQ(result.report.criterion("identity")->n, 5);
}

TEST(BadInput, ContextThatDoesNotFit) {
  const SelfPair pair(Architecture::kQwen2);
  Probe probe = nano_probes("identity", 1).front();
  for (int i = 0; i < 400; ++i) probe.context += " and so on";
  try {
    run_evaluation(pair.input({probe}, {"same_cache", "identity"}));
    ADD_FAILURE() << "was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInput);
    EXPECT_NE(std::string(error.what()).find("longer than the target allows"), std::string::npos)
        << error.what();
    EXPECT_NE(std::string(error.what()).find("1024"), std::string::npos) << error.what();
  }
}

TEST(BadInput, ConditionWithoutCheckpoint) {
  const SelfPair pair(Architecture::kQwen2);
  try {
    run_evaluation(pair.input(nano_probes("identity", 2), {"mlp"}));
    ADD_FAILURE() << "was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(error.what()).find("mlp"), std::string::npos);
  }
}

TEST(BadInput, NoItemsAreInconclusive) {
  const SelfPair pair(Architecture::kQwen2);
  EvaluationInput input = pair.input({}, {"same_cache", "identity"});
  input.options.families = {"identity"};
  const Evaluation result = run_evaluation(input);
  EXPECT_FALSE(result.gate_met);
  EXPECT_TRUE(result.report.found("empty_family"));
}

TEST(Partial, HandsOverOnlyWhatIsAsked) {
  const SelfPair pair(Architecture::kQwen3);
  EvaluationInput input = pair.input(nano_probes("identity", 8), {"same_cache", "identity"});
  input.options.partial = {{.name = "everything"},
                           {.name = "keys_only", .values = false},
                           {.name = "values_only", .keys = false},
                           {.name = "first_layer", .layers = {0}},
                           {.name = "markers", .tokens = "markers"}};
  const Evaluation result = run_evaluation(input);
  EXPECT_LT(mean_kl_of(result.answers, "everything"), 1e-5)
      << "a part that is the whole must equal the whole";
  for (const char* name : {"keys_only", "values_only", "first_layer", "markers"}) {
    EXPECT_EQ(result.answers.of(name).size(), 8u);
    EXPECT_GT(mean_kl_of(result.answers, name), 1e-3) << name;
  }
  input.options.partial = {{.name = "beyond", .layers = {3}}};
  EXPECT_THROW(run_evaluation(input), Error);
}

TEST(Blocks, PartnersLookForSomethingElse) {
  const SelfPair pair(Architecture::kQwen2);
  const auto probes = nano_probes("counterfact", 65);
  std::vector<Item> items;
  for (const Probe& probe : probes)
    items.push_back(make_item(probe, pair.reader, pair.reader, AlignmentKind::kIdentity, 8));
  const auto blocks = make_blocks(std::move(items), 1);
  ASSERT_EQ(blocks.size(), 2u);
  EXPECT_EQ(blocks[0].size() + blocks[1].size(), 65u);
  for (const auto& of_block : blocks) {
    const Block block(of_block, pair.reader, pair.reader, {});
    for (size_t i = 0; i < block.size(); ++i) {
      EXPECT_NE(block.partner(i), i);
      EXPECT_NE(block.item(block.partner(i)).probe->markers, block.item(i).probe->markers);
    }
  }
}

}  // namespace
}  // namespace kvlingua
