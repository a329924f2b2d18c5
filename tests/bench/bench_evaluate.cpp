// Evaluation: answers a second by condition, on one family of a model that is its own source.
//
//   bench_evaluate MODEL [--items N] [--tokens N] [--prompts FILE]
// Every condition over the same items; contexts are read once, whatever the number of conditions.
// --prompts writes what full_text reads, as token ids by line, for a peer to do the same work.
#include <ATen/Parallel.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "eval/evaluation.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/projector/identity.h"

namespace kvlingua {
namespace {

void write_prompts(const std::string& file, const Reader& reader,
                   const std::vector<Probe>& probes) {
  std::ofstream out(file);
  for (const Probe& probe : probes) {
    std::vector<int64_t> ids = reader.before;
    for (const auto& part : {probe.context, "\n" + probe.prompt + reader.frame.after})
      for (int64_t id : reader.encode(part)) ids.push_back(id);
    out << nlohmann::json(ids).dump() << "\n";
  }
}

int run(int argc, char** argv) {
  const std::filesystem::path directory = argv[1];
  EvalOptions options;
  options.items = 64;
  options.max_new_tokens = 24;
  std::string prompts;
  for (int i = 2; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--items") == 0) options.items = std::atoll(argv[i + 1]);
    if (std::strcmp(argv[i], "--tokens") == 0) options.max_new_tokens = std::atoll(argv[i + 1]);
    if (std::strcmp(argv[i], "--prompts") == 0) prompts = argv[i + 1];
  }
  set_log_level(LogLevel::kWarning);
  set_progress_mode(ProgressMode::kNone);
  const CausalLM model = CausalLM::load(directory);
  const Tokenizer tokenizer = Tokenizer::from_directory(directory);
  const Reader reader = Reader::make(model, TextReader::of(tokenizer, {}, model.config()));
  const IdentityProjector identity(model.kv_shape(), model.kv_shape());
  options.families = {"identity"};
  options.forms = {"question"};
  options.cases = options.latency = options.fidelity = false;
  options.conditions = {"same_cache", "raw",      "raw_shifted", "raw_rerotated", "noise",
                        "shuffled",   "averaged", "wrong_text",  "text_message",  "identity"};
  options.gated = "identity";
  EvaluationInput input{
      .source = reader,
      .target = reader,
      .alignment = AlignmentKind::kIdentity,
      .options = options,
      .projectors = {{"identity", {&identity, ""}}},
      .probes = make_probes(
          options, {1}, tokenizer.vocab_size() < 2000 ? FamilyStyle::kNano : FamilyStyle::kEnglish,
          0)};
  if (!prompts.empty()) write_prompts(prompts, reader, input.probes);
  const Evaluation result = run_evaluation(input);
  nlohmann::ordered_json out{{"model", directory.filename().string()},
                             {"items", options.items},
                             {"max_new_tokens", options.max_new_tokens},
                             {"threads", at::get_num_threads()},
                             {"seconds", result.report.run.seconds},
                             {"answers_per_second", static_cast<double>(result.answers.size()) /
                                                        result.report.run.seconds}};
  for (const ConditionNumbers& condition : result.report.conditions) {
    int64_t tokens = 0;
    for (const FamilyNumbers& family : condition.families) tokens += family.cell.tokens_generated;
    const double seconds = condition.seconds.value();
    out["conditions"][condition.name] = {
        {"answers_per_second", static_cast<double>(options.items) / seconds},
        {"tokens_generated", tokens},
        {"seconds", seconds}};
  }
  std::printf("%s\n", out.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace kvlingua

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_evaluate MODEL [--items N] [--tokens N] [--prompts FILE]\n");
    return 2;
  }
  try {
    return kvlingua::run(argc, argv);
  } catch (const kvlingua::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
