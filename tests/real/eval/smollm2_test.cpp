// Phase 2a's table and the controls with real weights: SmolLM2-135M-Instruct as its own source.
//
// The model lies in smollm2-135m-instruct under KVLINGUA_MODELS, or in the Hugging Face cache;
// without it the test skips aloud. KVLINGUA_REAL_OUT keeps answers and report there and goes on
// with what it finds.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "eval/evaluation.h"
#include "eval/report/faces.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/hub.h"
#include "kvlingua/projector/identity.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

std::filesystem::path model_directory() {
  if (const char* models = std::getenv("KVLINGUA_MODELS")) {
    const auto directory = std::filesystem::path(models) / "smollm2-135m-instruct";
    if (std::filesystem::exists(directory / "config.json")) return directory;
  }
  try {
    return resolve_model("HuggingFaceTB/SmolLM2-135M-Instruct");
  } catch (const Error&) {
    return {};
  }
}

struct Real {
  explicit Real(const std::filesystem::path& directory)
      : model(CausalLM::load(directory)),
        tokenizer(Tokenizer::from_directory(directory)),
        reader(Reader::make(model, TextReader::of(tokenizer, {}, model.config()))),
        identity(model.kv_shape(), model.kv_shape()) {}
  CausalLM model;
  Tokenizer tokenizer;
  Reader reader;
  IdentityProjector identity;
};

TEST(SmolLM2, PhaseTwoATableAndControls) {
  const auto directory = model_directory();
  if (directory.empty())
    GTEST_SKIP() << "no SmolLM2-135M-Instruct here: KVLINGUA_MODELS does not hold it";
  const Real real(directory);
  const char* items = std::getenv("KVLINGUA_REAL_ITEMS");  // 200 by default; fewer for a quick look
  EvalOptions options;
  options.families = {"identity", "counterfact"};
  options.items = items == nullptr ? 200 : std::atoll(items);
  options.conditions = {"same_cache", "raw",      "raw_shifted", "raw_rerotated", "noise",
                        "shuffled",   "averaged", "wrong_text",  "identity"};
  options.gated = "identity";
  options.forms = {"question"};
  options.shifts = {1, 8, 40};
  options.max_new_tokens = 24;
  options.latency = options.fidelity = false;
  EvaluationInput input{.source = real.reader,
                        .target = real.reader,
                        .alignment = AlignmentKind::kIdentity,
                        .options = options,
                        .projectors = {{"identity", {&real.identity, ""}}},
                        .probes = make_probes(options, {1}, FamilyStyle::kEnglish, 0)};
  const TempDir scratch;
  const char* kept = std::getenv("KVLINGUA_REAL_OUT");
  input.folder = kept == nullptr ? scratch.path() : std::filesystem::path(kept);
  const Evaluation result = run_evaluation(input);
  if (kept != nullptr) write_report(result.report, input.folder);

  for (const ControlCheck& check : check_controls(result.answers)) {
    std::printf("%s equals %s on %lld of %lld\n", check.control.c_str(), check.reference.c_str(),
                static_cast<long long>(check.equal), static_cast<long long>(check.n));
    EXPECT_EQ(check.equal, check.n) << check.control;
  }
  const auto report = result.report.to_json();
  ASSERT_EQ(report["cases"].size(), 5u);
  for (const auto& [id, cells] : report["cases"].items())
    EXPECT_EQ(cells.size(), report["conditions"].size()) << id << ": an empty cell";
  const auto rate = [&](const char* condition, const char* family, const char* what) {
    return report["conditions"][condition]["families"][family][what]["rate"].get<double>();
  };
  const auto nll = [&](const char* condition) { return result.report.retained(condition)->nll; };
  // A 135M model seldom repeats an invented name and place whole, but having read them it finds the
  // gold answers far likelier: without that, nothing here could tell conditions apart.
  EXPECT_GT(nll("baseline") - nll("full_text"), 1);
  EXPECT_EQ(rate("identity", "identity", "success"), rate("full_text", "identity", "success"));
  for (const char* control : {"baseline", "noise", "shuffled", "averaged", "wrong_text"})
    EXPECT_LT(rate(control, "identity", "success"), 0.05) << control;
  EXPECT_GT(nll("raw_shifted_1"), nll("full_text"));
  EXPECT_GT(nll("raw_shifted_8"), nll("raw_shifted_1"));
  EXPECT_GT(nll("raw_shifted"), nll("raw_shifted_8"));
  EXPECT_NEAR(nll("raw_rerotated"), nll("full_text"), 1e-3);
}

}  // namespace
}  // namespace kvlingua
