#include "kvlingua/preflight/preflight.h"

#include "datasets/generation/generate_cost.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/bridge/open_model.h"
#include "kvlingua/model/published_config.h"

namespace kvlingua {
namespace {

// Of a card that is not here only a model whose shapes are not known.
bool stands_in_the_way(const Preflight& p, const ModelCheck& model) {
  return !model.problem.empty() && !(p.card && model.known);
}

void find_problems(Preflight& p, const RunContext& context) {
  for (const ModelCheck* model : {&p.source, &p.target}) {
    if (stands_in_the_way(p, *model)) p.problems.push_back(model->problem);
    if (p.source.name == p.target.name) break;
  }
  if (!p.card && !p.facts.driver.empty() && !p.device.is_cuda() && context.device_asked != "cpu") {
    p.problems.push_back(cat(
        "a GPU with driver ", p.facts.driver, " is here, but this libtorch (CUDA ",
        p.facts.cuda_runtime.empty() ? "none" : p.facts.cuda_runtime,
        ") cannot use it; scripts/setup.sh picks one that the driver runs, or use --device cpu"));
  }
  const auto too_long = [&](const ModelCheck& model) {
    if (!model.known || model.config.max_position_embeddings >= p.recipe.data.max_length) return;
    p.problems.push_back(cat("data.max_length ", p.recipe.data.max_length, " is past the ",
                             model.config.max_position_embeddings, " positions of ", model.name));
  };
  too_long(p.source);
  too_long(p.target);
}

std::string say_fit(const Preflight& p) {
  const std::string where = p.card ? p.card->name : p.device.is_cuda() ? "this GPU" : "here";
  if (!p.fit)
    return cat("neither smaller batches nor nf4 nor layer streaming fits ", where,
               ": a smaller projector, or a larger ", p.device.is_cuda() ? "GPU" : "machine");
  std::string line = cat("fits ", where, " (", p.fit->stage, ", ", bytes_text(p.fit->memory),
                         " of ", bytes_text(p.machine.memory), ") with:");
  for (const std::string& change : p.fit->set) line += cat(" --set ", change);
  return line;
}

// The card's own figures in place of this machine's.
DeviceFacts facts_of(const Card& card) {
  return {
      .name = card.name, .memory = static_cast<int64_t>(card.memory), .bfloat16 = card.bfloat16};
}

// 4 for what the compute type "auto" of a card that is not here holds in float32 too (device.h).
int64_t bytes_on_card(const ModelOptions& options, int64_t parameters) {
  if (options.dtype == "auto") return parameters < kSmallModel ? 4 : 2;
  return compute_bytes(options, at::kCPU, parameters);
}

}  // namespace

void find_misfits(Preflight& p) {
  const InputsOf inputs = [&p](const Recipe& changed) { return p.inputs_of(changed); };
  for (const StagePlan& stage : p.plan.stages) {
    if (stage.fits) continue;
    std::string line = cat(stage.name, " needs ", bytes_text(stage.memory), " of memory, ",
                           bytes_text(p.machine.memory), " are there; ");
    if (stage.largest_batch > 0) {
      line += cat("--set ", stage.batch_key, "=", stage.largest_batch, " fits");
    } else if (!stage.remedy.empty()) {
      line += stage.remedy;
    } else {
      const std::string weights = say_weights(p.recipe, inputs, stage);
      line += cat("not even one item fits", weights.empty() ? "" : "; ", weights);
    }
    p.problems.push_back(line);
  }
  if (!p.plan.fits_memory) {
    p.fit = find_fit(p.recipe, inputs);
    p.problems.push_back(say_fit(p));
  }
  if (!p.plan.fits_disk) {
    p.problems.push_back(
        cat("disk: ", bytes_text(p.plan.disk), " are needed in ", p.out.string(), ", ",
            bytes_text(p.machine.disk_free),
            " are free; lower data.max_tokens, store data.storage_dtype int8, or use --out"));
  }
}

Error cannot_run(const Preflight& preflight) {
  const bool models = stands_in_the_way(preflight, preflight.source) ||
                      stands_in_the_way(preflight, preflight.target);
  const ExitCode code = models                        ? ExitCode::kInput
                        : !preflight.plan.fits_memory ? ExitCode::kDevice
                        : !preflight.plan.fits_disk   ? ExitCode::kDiskFull
                                                      : ExitCode::kFailed;
  const size_t others = preflight.problems.size() - 1;
  return Error(
      {.code = code,
       .where = preflight.recipe.name,
       .what = "cannot run here",
       .remedy = preflight.problems.front() + (others > 0 ? cat(" (and ", others, " more)") : "")});
}

ModelCheck check_model(const ModelOptions& options) {
  ModelCheck check;
  check.name = options.name;
  try {
    const std::filesystem::path directory = locate_model(options);
    check.config = ModelConfig::from_directory(directory);
    check.known = check.present = true;
    check.directory = directory.string();
  } catch (const Error& error) {
    check.problem = error.what();
    try {
      check.config = published_config(options.name);
      check.known = true;
    } catch (const Error&) {  // the shapes stay unknown, and `problem` says why
    }
  }
  return check;
}

PlanInputs Preflight::inputs_of(const Recipe& changed) const {
  const auto numbers = [this](const ModelOptions& options, const ModelConfig& config) {
    const int64_t parameters = config.parameter_count();
    return numbers_of(
        config, options,
        card ? bytes_on_card(options, parameters) : compute_bytes(options, device, parameters));
  };
  return {changed, numbers(changed.pair.source, source.config),
          numbers(changed.pair.target, target.config), corpus, machine};
}

Preflight run_preflight(const Recipe& recipe, const RunContext& context,
                        const std::optional<Card>& card) {
  Preflight p;
  p.recipe = recipe;
  p.out = context.paths.out;
  p.card = card;
  p.device = card ? at::Device(at::kCUDA) : at::Device(context.device);
  p.facts = card ? facts_of(*card) : device_facts(p.device);
  p.source = check_model(recipe.pair.source);
  p.target = check_model(recipe.pair.target);
  p.machine =
      card ? machine_of(*card)
           : measure_machine(p.device, resolve_dtype(recipe.pair.target.dtype, p.device), p.out);
  try {
    p.corpus = count_corpus(recipe, p.target.directory);
  } catch (const Error& error) {
    p.problems.push_back(error.what());
  }
  if (p.source.known && p.target.known) {
    try {
      p.plan = make_plan(p.inputs());
    } catch (const Error& error) {  // a file of prompts or personas
      p.problems.push_back(error.what());
    }
  }
  find_problems(p, context);
  find_misfits(p);
  return p;
}

}  // namespace kvlingua
