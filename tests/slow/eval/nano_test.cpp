// The embedded nano target as its own source: a translation that loses nothing must pass, controls
// must sit at the baseline, and a shift must break what re-rotation repairs. 200 held-out items a
// family and form.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "eval/evaluation.h"
#include "eval/report/faces.h"
#include "kvlingua/projector/identity.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

TEST(NanoTarget, LosslessTranslationPassesAndControlsDoNot) {
  const auto directory = std::filesystem::path(KVLINGUA_SOURCE_DIR) / "checkpoints/nano/target";
  const CausalLM model = CausalLM::load(directory);
  const Tokenizer tokenizer = Tokenizer::from_directory(directory);
  const Reader reader = Reader::make(model, TextReader::of(tokenizer, {}, model.config()));
  const IdentityProjector identity(model.kv_shape(), model.kv_shape());
  EvalOptions options;
  options.conditions = {"same_cache", "raw_shifted", "raw_rerotated", "noise",
                        "shuffled",   "averaged",    "wrong_text",    "identity"};
  options.gated = "identity";
  options.cases = false;
  options.shifts = {8, 40};
  options.max_new_tokens = 24;
  EvaluationInput input{.source = reader,
                        .target = reader,
                        .alignment = AlignmentKind::kIdentity,
                        .options = options,
                        .projectors = {{"identity", {&identity, ""}}},
                        .probes = make_probes(options, {1}, FamilyStyle::kNano, 0)};
  ASSERT_EQ(input.probes.size(), 1200u);
  const TempDir scratch;
  const char* kept = std::getenv("KVLINGUA_NANO_OUT");
  input.folder = kept == nullptr ? scratch.path() : std::filesystem::path(kept);
  const auto start = std::chrono::steady_clock::now();
  const Evaluation result = run_evaluation(input);
  RecordProperty(
      "seconds",
      static_cast<int>(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()));
  if (kept != nullptr) write_report(result.report, input.folder);

  for (const ControlCheck& check : check_controls(result.answers))
    EXPECT_EQ(check.equal, check.n) << check.control;
  const Report& report = result.report;
  for (const CriterionResult& criterion : report.criteria)
    EXPECT_EQ(criterion.verdict, Verdict::kPass) << criterion.name << " " << criterion.statistic;
  EXPECT_TRUE(result.gate_met);
  const auto rate = [&](const char* condition, const char* family, Rate Cell::*what) {
    return (report.cell(condition, family)->cell.*what).rate;
  };
  EXPECT_GT(rate("full_text", "identity", &Cell::success), 0.85);
  EXPECT_GT(rate("full_text", "counterfact", &Cell::injected), 0.7);
  EXPECT_GT(rate("baseline", "counterfact", &Cell::parametric), 0.9);
  for (const char* control : {"baseline", "noise", "shuffled", "averaged", "wrong_text"})
    EXPECT_LT(rate(control, "identity", &Cell::success), 0.03) << control;
  const auto kl = [&](const char* condition) { return report.retained(condition)->kl; };
  EXPECT_GT(kl("raw_shifted_8"), 0.01);
  EXPECT_GT(kl("raw_shifted"), kl("raw_shifted_8"));
  EXPECT_LT(kl("raw_rerotated"), 1e-5);
}

}  // namespace
}  // namespace kvlingua
