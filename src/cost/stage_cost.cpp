#include "kvlingua/cost/stage_cost.h"

#include <algorithm>
#include <cmath>

#include "kvlingua/projector/factory.h"

namespace kvlingua {
namespace {

double d(int64_t value) { return static_cast<double>(value); }

}  // namespace

double PlanInputs::length() const { return std::max(1.0, corpus.tokens_per_sample); }

double PlanInputs::projector_parameters() const {
  return d(count_parameters(recipe.projector, source.kv_shape(), target.kv_shape()).total());
}

double PlanInputs::pair_bytes_per_token() const {
  const double element = storage_element_bytes(recipe.data.storage_dtype);
  double bytes = source.kv_bytes(element) + target.kv_bytes(element);
  // int8 keeps a float32 scale for each head's key and value.
  if (recipe.data.storage_dtype == "int8")
    bytes += 2 * 4 * d(source.layers * source.kv_heads + target.layers * target.kv_heads);
  return bytes;
}

StagePlan affine_plan(const PlanInputs& in, std::string name,
                      const std::function<double(double)>& memory, std::string batch_key,
                      int64_t batch) {
  StagePlan plan{.name = std::move(name), .batch_key = std::move(batch_key), .batch = batch};
  plan.memory_per_batch = plan.batch_key.empty() ? 0 : memory(1) - memory(0);
  set_memory(plan, in.machine.base_memory + memory(d(batch)), in.machine);
  return plan;
}

void set_memory(StagePlan& stage, double bytes, const MachineNumbers& machine) {
  stage.memory = bytes;
  stage.fits = bytes <= machine.memory;
  if (stage.batch_key.empty() || stage.memory_per_batch <= 0) return;
  const double without = bytes - d(stage.batch) * stage.memory_per_batch;
  const double most = (machine.memory - without) / stage.memory_per_batch;
  stage.largest_batch = static_cast<int64_t>(std::clamp(most, 0.0, double{1 << 30}));
}

double resident_weights(const PlanInputs& in, bool one_at_a_time) {
  const auto held = [](const ModelNumbers& m, bool streaming) {
    const double head = d(m.head_parameters * m.compute_bytes), all = d(m.weight_bytes());
    const double layers =
        streaming ? (all - head) / d(std::max<int64_t>(1, m.layers)) * 2 : all - head;
    return head + layers + d(m.scratch_bytes);
  };
  const double source = held(in.source, in.recipe.pair.source.layer_streaming);
  const double target = held(in.target, in.recipe.pair.target.layer_streaming);
  if (in.recipe.pair.source.name == in.recipe.pair.target.name)
    return source;  // one model, loaded once
  return one_at_a_time && in.recipe.data.sequential ? std::max(source, target) : source + target;
}

double forward_seconds(const PlanInputs& in, const ModelNumbers& m, double tokens, double batches) {
  const double compute = tokens * m.flops_per_token(in.length()) / in.machine.flops;
  return std::max(compute, batches * m.operations() * in.machine.launch_seconds);
}

double storage_element_bytes(const std::string& storage_dtype) {
  if (storage_dtype == "float32") return 4;
  return storage_dtype == "int8" ? 1 : 2;
}

int64_t planned_steps(const BatchOptions& batch, int64_t micro_batches_per_epoch) {
  if (batch.steps > 0) return batch.steps;
  const double micro = batch.epochs * d(micro_batches_per_epoch);
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(micro / d(batch.accumulation))));
}

}  // namespace kvlingua
