// What a stage says of its own cost, beside its own code: memory and time computed from shapes, the
// units of the phases that it times, and how to run it small. Preflight adds up
// (kvlingua/preflight), and the table that a training run starts with is made from the same.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "kvlingua/config/recipe.h"
#include "kvlingua/cost/numbers.h"

namespace kvlingua {

struct PlanInputs {
  const Recipe& recipe;
  ModelNumbers source, target;
  CorpusNumbers corpus;
  MachineNumbers machine;
  double known_train_rows = 0;  // of a set that is there; 0: as many as the corpus will give

  double length() const;  // tokens of a span
  double span_tokens() const { return static_cast<double>(corpus.samples) * length(); }
  double projector_parameters() const;
  // Stored, of both models, for a token.
  double pair_bytes_per_token() const;
};

struct StagePlan {
  std::string name;
  double memory = 0;            // peak, bytes
  double memory_per_batch = 0;  // of which grows with each unit of `batch`
  double weights = 0;           // of which is the models' weights, as the recipe holds them
  double seconds = 0;
  std::string rehearsed;      // how `memory` and `seconds` were found; empty: from shapes alone
  double disk = 0;            // bytes written
  std::string batch_key;      // the recipe key that scales memory; empty when none does
  int64_t batch = 0;          // its value
  int64_t largest_batch = 0;  // the largest that fits; 0 when not even one does
  bool fits = false;
  std::string remedy;  // where nothing smaller fits: what to lower

  // Of training.
  int64_t steps = 0, step_size = 0;  // optimizer steps, items in each
  std::string unit = "rows";         // what those items are
  int64_t parameters = 0;            // trained
  double products = 0;               // operations of its matrix products
  double checkpoint_bytes = 0;       // of one
  double rows_per_feature = 0;       // of a linear map solved for in closed form
  bool recomputed = false;           // layers in backward, to save memory
};

// A plan whose memory is affine in the batch: `memory(0)` and the same again for every unit.
StagePlan affine_plan(const PlanInputs& in, std::string name,
                      const std::function<double(double)>& memory, std::string batch_key,
                      int64_t batch);
// Sets a stage's memory, and with it what fits.
void set_memory(StagePlan& stage, double bytes, const MachineNumbers& machine);

// Weights of both models. `one_at_a_time`: the stage can do with one after the other
// (data.sequential).
double resident_weights(const PlanInputs& in, bool one_at_a_time);
// Seconds of reading so many tokens in so many batches: arithmetic, or launches where those take
// longer.
double forward_seconds(const PlanInputs& in, const ModelNumbers& model, double tokens,
                       double batches);
double storage_element_bytes(const std::string& storage_dtype);

// What a stage does, in the units of the phases that its JSON times (stage_meter.h): rows of
// "gather", steps of "steps", answers of "read full_text". Phases that happen once are not here.
using PhaseUnits = std::map<std::string, double>;

struct MeasuredPhase {
  double units = 0, seconds = 0;
};
// What a small run took.
struct MeasuredStage {
  std::string name;
  double memory = 0;  // peak, bytes
  std::map<std::string, MeasuredPhase> phases;
};

struct StageCost {
  StagePlan (*plan)(const PlanInputs& in) = nullptr;
  PhaseUnits (*units)(const PlanInputs& in) = nullptr;
  // Cuts a recipe so that the stage takes about kSmallSeconds, shapes kept where that can be; `in`
  // is of the whole one. Null: it is not run small, and why_whole says why.
  void (*cut)(Recipe& small, const PlanInputs& in) = nullptr;
  std::string why_whole;
  // What of a small run does not scale by its units: changes `measured`, and returns the seconds
  // that are computed in place of what it takes away. Null: nothing.
  double (*correct)(MeasuredStage& measured, const PlanInputs& whole,
                    const PlanInputs& small) = nullptr;
  // What was measured in place of a phase that the small run left out. Null: nothing was.
  const MeasuredPhase* (*similar)(const MeasuredStage& measured,
                                  const std::string& phase) = nullptr;
};
constexpr double kSmallSeconds = 2;  // that a stage's small run should take, about

// Optimizer steps of a stage: batch.steps, or what batch.epochs asks for.
int64_t planned_steps(const BatchOptions& batch, int64_t micro_batches_per_epoch);

}  // namespace kvlingua
