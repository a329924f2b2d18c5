#include "eval/geometry/geometry_cost.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "eval/personas/design.h"
#include "eval/sweep/prompts.h"
#include "eval/sweep/scales.h"
#include "kvlingua/base/error.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/model/published_config.h"

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }
double d(size_t value) { return static_cast<double>(value); }

constexpr double kBytesAToken = 4, kTemplate = 20;
// Of statistics in this program, on one processor: seconds a drawn value, and a number of a forest.
constexpr double kDraw = 25e-9, kTree = 4e-8;

struct Reading {
  double prompts = 0, tokens = 0;  // of each
  int64_t new_tokens = 0, batch = 1;
};

double reading_memory(const ModelNumbers& m, const Reading& r, double batch) {
  const double rows = batch * (r.tokens + d(r.new_tokens));
  // The cache, once more while rows are dropped, and one layer's keys and values in float32.
  return 2 * rows * m.kv_bytes(d(m.compute_bytes)) + rows * 2 * d(m.kv_channels()) * 4 +
         m.activation_bytes(batch * r.tokens) + 2 * batch * d(m.vocab) * 4;
}

double reading_seconds(const PlanInputs& in, const ModelNumbers& m, const Reading& r,
                       double slower) {
  const MachineNumbers& machine = in.machine;
  const double batches = std::ceil(r.prompts / d(r.batch)), kept = r.tokens + d(r.new_tokens);
  const double prefill =
      std::max(r.prompts * r.tokens * m.flops_per_token(r.tokens) / machine.flops,
               batches * m.operations() * machine.launch_seconds);
  const double step = std::max({d(m.weight_bytes()) / machine.bandwidth,
                                d(r.batch) * 2 * d(m.parameters) / machine.flops,
                                m.operations() * machine.launch_seconds});
  // Of each layer's keys and values a Gram matrix in float64 and its eigenvalues.
  const double width = d(m.head_dim),
               grams = r.prompts * 2 * d(m.layers) *
                       (2 * d(m.kv_heads) * kept * width * width + 10 * std::pow(width, 3));
  return slower * (prefill + batches * d(r.new_tokens) * step) + grams / machine.flops_float64;
}

// Weights alone on the device, and what reading takes beside them.
void take_memory(StagePlan& plan, const PlanInputs& in, const ModelNumbers& m, const Reading& r) {
  const double weights = d(m.weight_bytes() + m.scratch_bytes);
  const double bytes = in.machine.base_memory + weights + reading_memory(m, r, d(r.batch));
  if (bytes <= plan.memory) return;
  plan.batch = r.batch;
  plan.memory_per_batch = reading_memory(m, r, 1);
  plan.weights = weights;
  set_memory(plan, bytes, in.machine);
}

Reading modes_reading(const SweepOptions& options) {
  Reading r{.new_tokens = options.new_tokens, .batch = options.batch_size};
  const auto categories = choose_prompts(
      read_prompts(options.prompts.empty() ? builtin_cognitive_modes()
                                           : std::filesystem::path(resolve_path(options.prompts))),
      options.categories, options.prompts_per_category);
  double bytes = 0;
  for (const PromptCategory& category : categories)
    for (const std::string& prompt : category.prompts) r.prompts += 1, bytes += d(prompt.size());
  r.tokens = r.prompts > 0 ? bytes / r.prompts / kBytesAToken : 0;
  return r;
}

// A model of sweep.models: of the pair, or published.
std::optional<ModelNumbers> numbers_of_name(const PlanInputs& in, const std::string& name) {
  const PairOptions& pair = in.recipe.pair;
  if (name == pair.source.name) return in.source;
  if (name == pair.target.name) return in.target;
  ModelOptions options;
  options.name = name;
  const auto known = std::ranges::find(known_scales(), name, &Scale::key);
  if (known != known_scales().end()) {
    options.name = known->model;
    if (known->quantize) options.weights = "nf4";
  }
  try {
    return numbers_of(published_config(options.name), options, in.target.compute_bytes);
  } catch (const Error&) {
    return std::nullopt;  // its shapes are not known before it is here
  }
}

std::vector<ModelNumbers> swept(const PlanInputs& in) {
  std::vector<ModelNumbers> all;
  for (const std::string& name : in.recipe.sweep.models)
    if (const auto numbers = numbers_of_name(in, name)) all.push_back(*numbers);
  if (!in.recipe.sweep.models.empty()) return all;
  all = {in.source, in.target};
  if (in.recipe.pair.source.name == in.recipe.pair.target.name) all.pop_back();
  return all;
}

struct PersonaTexts {
  IdentityDesign design;
  Reading reading;  // of all fingerprints
  double persona_share = 1;
};

PersonaTexts persona_texts(const IdentityOptions& options) {
  PersonaTexts out{.design =
                       read_identity(options.personas.empty()
                                         ? builtin_identity()
                                         : std::filesystem::path(resolve_path(options.personas)))};
  shorten(out.design, options.wordings, options.prompts_per_group);
  double bytes = 0, texts = 0;
  for (const auto* kinds : {&out.design.personas, &out.design.topics})
    for (const Persona& kind : *kinds)
      for (const std::string& text : kind.wordings) bytes += d(text.size()), texts += 1;
  double asked = 0;
  for (const PromptGroup& group : out.design.groups)
    for (const std::string& prompt : group.prompts) asked += d(prompt.size());
  const double prompts = d(out.design.prompts());
  out.reading = {
      .prompts = texts * prompts,
      .tokens = (bytes / std::max(1.0, texts) + asked / std::max(1.0, prompts)) / kBytesAToken +
                kTemplate,
      .new_tokens = options.new_tokens,
      .batch = options.batch_size};
  out.persona_share =
      d(out.design.personas.size()) / d(out.design.personas.size() + out.design.topics.size());
  return out;
}

// Every text with every question and every persona's name behind it, with the text and without:
// full_text, and through the projector translated, noise and the topics'.
double recognition_seconds(const PlanInputs& in, const PersonaTexts& texts, double slower) {
  const IdentityOptions& o = in.recipe.identity;
  if (!o.recognition) return 0;
  Reading asked = texts.reading;
  asked.prompts *= d(texts.design.recognition.size()) / std::max(1.0, d(texts.design.prompts())) *
                   2 * (o.transfer ? 3 * texts.persona_share + 1 : texts.persona_share);
  asked.new_tokens = 1 + static_cast<int64_t>(texts.design.personas.size());
  return reading_seconds(in, in.target, asked, slower);
}

// Ridge over folds for every permutation, penalty and layer; forests and linear classifiers beside.
double classification_seconds(const PlanInputs& in, const PersonaTexts& texts) {
  const IdentityOptions& o = in.recipe.identity;
  const double wordings = std::max(1.0, d(texts.design.wordings())),
               groups = std::max(1.0, d(texts.design.groups.size())), folds = wordings * groups,
               n = texts.reading.prompts * texts.persona_share, test = n / folds,
               train = n * (1 - 1 / wordings) * (1 - 1 / groups),
               kinds = d(texts.design.personas.size()), width = 6 * d(in.target.layers);
  const double maps = 6 * folds * 3 * (std::pow(width, 3) / 3 + 2 * width * width * train);
  const double dealt = d(o.permutations) * 3 * folds * 2 * test * train * kinds;
  const double draws = 8 * d(o.bootstrap) * n * kDraw;
  const double extras =
      o.extras ? folds * d(o.trees) * train * std::log2(1 + train) * std::sqrt(width) * kTree : 0;
  return (maps + dealt) / in.machine.flops_float64 + draws + extras;
}

}  // namespace

StagePlan sweep_plan(const PlanInputs& in, double slower) {
  StagePlan plan{.name = "sweep", .batch_key = "sweep.batch_size", .fits = true};
  const SweepOptions& options = in.recipe.sweep;
  if (!options.modes) return plan;
  const Reading reading = modes_reading(options);
  for (const ModelNumbers& model : swept(in)) {
    take_memory(plan, in, model, reading);
    // 27 comparisons raw and without length, summaries of every category.
    plan.seconds += reading_seconds(in, model, reading, slower) +
                    (27 * 2 + 13 * 4) * d(options.bootstrap) * 30 * kDraw;
  }
  plan.disk = 16 << 20;
  return plan;
}

StagePlan identity_plan(const PlanInputs& in, double slower) {
  StagePlan plan{.name = "identity", .batch_key = "identity.batch_size", .fits = true};
  const IdentityOptions& options = in.recipe.identity;
  const PersonaTexts texts = persona_texts(options);
  take_memory(plan, in, in.target, texts.reading);
  plan.seconds = reading_seconds(in, in.target, texts.reading, slower) +
                 classification_seconds(in, texts) + recognition_seconds(in, texts, slower);
  if (options.transfer) {
    // Both models read every text; the target writes under five conditions.
    Reading written = texts.reading;
    plan.seconds += reading_seconds(
        in, in.source,
        {.prompts = written.prompts, .tokens = written.tokens, .batch = written.batch}, slower);
    written.prompts *= 5 * texts.persona_share;
    plan.seconds +=
        reading_seconds(in, in.target, written, slower) +
        written.prompts * written.tokens * 2 * in.projector_parameters() / in.machine.flops_float32;
    const double both = resident_weights(in, false) + in.projector_parameters() * 4;
    const double bytes = in.machine.base_memory + both +
                         reading_memory(in.target, written, d(written.batch)) +
                         reading_memory(in.source, written, d(written.batch));
    if (bytes > plan.memory) {
      plan.weights = resident_weights(in, false);
      plan.memory_per_batch =
          reading_memory(in.target, written, 1) + reading_memory(in.source, written, 1);
      set_memory(plan, bytes, in.machine);
    }
  }
  plan.disk = 32 << 20;
  return plan;
}

}  // namespace kvlingua
