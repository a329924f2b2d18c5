// Plan: the size, memory and time of a recipe's stages, computed from shapes before anything is
// done.
//
// Plain numbers in, plain numbers out; knows no torch and opens no model. Memory is the peak of the
// device the stage runs on (on the CPU: of the process). Time divides arithmetic by a measured rate
// and moved bytes by a measured bandwidth. What each term stands for is said where it is added
// (plan.cpp).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kvlingua/config/recipe.h"

namespace kvlingua {

// One model in numbers, as its config.json has them.
struct ModelNumbers {
  int64_t layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0,
          vocab = 0;
  int64_t parameters = 0;       // of the whole model
  int64_t head_parameters = 0;  // of embedding and head: vocab * hidden, twice when untied
  int64_t max_positions = 0;
  int64_t compute_bytes = 4;  // of one weight or activation

  int64_t kv_channels() const { return kv_heads * head_dim; }  // of one layer's keys
  int64_t weight_bytes() const { return parameters * compute_bytes; }
  // Keys and values of one token, `element_bytes` each.
  double kv_bytes(double element_bytes) const {
    return 2.0 * static_cast<double>(layers * kv_channels()) * element_bytes;
  }
  // Of reading one token at the given context length, without the vocabulary head.
  double flops_per_token(double context) const;
};

struct MachineNumbers {
  bool cuda = false;
  double memory = 0;       // bytes available to the device
  double base_memory = 0;  // what the process takes there before any model: libraries, CUDA context
  double flops = 50e9;     // a second, of large GEMMs in the compute type
  double flops_float32 = 50e9;
  // What the ridge stage's solution is made of, in float64: products and Cholesky factors (n^3 / 3).
  double flops_float64 = 20e9, flops_cholesky = 10e9;
  double bandwidth = 10e9;   // bytes a second, of the device's memory
  double first_touch = 2e9;  // bytes a second, of memory that was just allocated
  double disk_rate = 500e6;  // bytes a second, written and synced
  double disk_free = 0;
  double launch_seconds = 5e-6;  // overhead of one operation
};

struct CorpusNumbers {
  int64_t samples = 0;
  double tokens_per_sample = 0;  // of the span, after max_length
};

struct StagePlan {
  std::string name;
  double memory = 0;            // peak, bytes
  double memory_per_batch = 0;  // of which grows with each unit of `batch`
  double seconds = 0;
  std::string rehearsed;      // how `memory` and `seconds` were found; empty: from shapes alone
  double disk = 0;            // bytes written
  std::string batch_key;      // the recipe key that scales memory; empty when none does
  int64_t batch = 0;          // its value
  int64_t largest_batch = 0;  // the largest that fits; 0 when not even one does
  bool fits = false;
};

struct Plan {
  double bytes_per_token = 0;  // stored, both models
  double dataset_tokens = 0, dataset_bytes = 0;
  int64_t projector_parameters = 0;
  std::vector<StagePlan> stages;
  bool fits_memory = true, fits_disk = true;
  double seconds = 0, disk = 0;
};

// What a stage does, in the units of the phases that its JSON times (stage_meter.h): rows of
// "gather", steps of "steps", answers of "read full_text". Phases that happen once are not here.
using PhaseUnits = std::map<std::string, double>;
std::map<std::string, PhaseUnits> planned_units(const Recipe& recipe, const ModelNumbers& source,
                                                const ModelNumbers& target,
                                                const CorpusNumbers& corpus);

// Operations of a ridge stage by kind, with `rows` gathered.
struct RidgeWork {
  double gather = 0;                 // float32 products
  double product = 0, cholesky = 0;  // of the solution, float64
  double moved = 0;                  // bytes read and written by scaling the sums
  double fresh = 0;                  // bytes of copies of them
  double kept = 0;                   // bytes of the sums that are written
  double solve_seconds(const MachineNumbers& machine) const;
};
RidgeWork ridge_work(const RidgeOptions& ridge, const ModelNumbers& source,
                     const ModelNumbers& target, double rows);

// Sets a stage's memory, and with it what fits.
void set_memory(StagePlan& stage, double bytes, const MachineNumbers& machine);
// Sums and verdicts over the stages.
void total_up(Plan& plan, const MachineNumbers& machine);

// What distillation prepares of its items: of each the source's rows, the target's own and what the
// teacher says of the answer. Kept while all fit in kKeptBytes (trainers/distillation.h).
struct PreparedItems {
  double items = 0, bytes = 0;  // of all
  bool kept() const { return bytes <= kKeptBytes; }
  static constexpr double kKeptBytes = 1 << 30;
};
PreparedItems prepared_items(const Recipe& recipe, const ModelNumbers& source,
                             const ModelNumbers& target, const CorpusNumbers& corpus);

double storage_element_bytes(const std::string& storage_dtype);
// Parameters of the recipe's projector (ridge base included).
int64_t projector_parameters(const ProjectorOptions& options, const ModelNumbers& source,
                             const ModelNumbers& target);

Plan make_plan(const Recipe& recipe, const ModelNumbers& source, const ModelNumbers& target,
               const CorpusNumbers& corpus, const MachineNumbers& machine);

}  // namespace kvlingua
