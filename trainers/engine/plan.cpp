#include "trainers/engine/plan.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "kvlingua/base/progress.h"
#include "kvlingua/projector/block_linear.h"
#include "kvlingua/projector/ridge.h"
#include "kvlingua/projector/ridge_sums.h"

namespace kvlingua {
namespace {

struct Sizes {
  int64_t features = 0;        // of one target channel
  int64_t ridge = 0;           // weights of the linear map
  int64_t change = 0;          // of the change of low rank over it
  int64_t mlp = 0;             // of the network over it
  int64_t mlp_activation = 0;  // floats kept per row for backward
};

Sizes sizes_of(const ProjectorOptions& options, const KvShape& source, const KvShape& target) {
  const RidgeOptions& r = options.ridge;
  const int64_t candidates =
      static_cast<int64_t>(evenly_spaced(r.candidate_layers, source.layers).size());
  const int64_t layers = r.source_layers > 0 ? std::min(r.source_layers, candidates) : candidates;
  const bool matched = r.layout == "head_matched";
  const int64_t heads =
      matched ? std::max<int64_t>(1, source.kv_heads / target.kv_heads) : source.kv_heads;
  const int64_t f =
      (layers + r.previous_tokens) * heads * source.head_dim * (r.features == "both" ? 2 : 1);
  const int64_t outputs = 2 * target.layers * target.width();
  const int64_t networks = 2 * target.layers * (matched ? target.kv_heads : 1);
  const MlpOptions& m = options.mlp;
  const int64_t groups = layers < candidates || matched ? networks : r.features == "both" ? 1 : 2;
  Sizes sizes{.features = f,
              .ridge = f * outputs + outputs,
              .change = r.change_rank * (groups * f + outputs)};
  const int64_t first =
      m.rank > 0 ? networks * (f * m.rank + m.rank * m.hidden) : networks * f * m.hidden;
  sizes.mlp = first + networks * m.hidden +
              (m.depth - 1) * networks * (m.hidden * m.hidden + m.hidden) + m.hidden * outputs;
  sizes.mlp_activation = 2 * networks * m.hidden * (m.depth + 1);
  return sizes;
}

std::string row(const std::string& name, const std::string& value) {
  return name + std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') + value + "\n";
}

}  // namespace

int64_t planned_steps(const BatchOptions& batch, int64_t micro_batches_per_epoch) {
  if (batch.steps > 0) return batch.steps;
  const double micro = batch.epochs * static_cast<double>(micro_batches_per_epoch);
  return std::max<int64_t>(
      1, static_cast<int64_t>(std::ceil(micro / static_cast<double>(batch.accumulation))));
}

double measure_gemm_rate(const std::string& device) {
  const at::Device where(device);
  const int64_t n = where.is_cpu() ? 768 : 4096;
  const at::Tensor a = at::randn({n, n}, at::device(where)),
                   b = at::randn({n, n}, at::device(where));
  const auto timed = [&] {
    const auto begin = std::chrono::steady_clock::now();
    at::mm(a, b).sum().item<float>();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  timed();
  return 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n) /
         std::min({timed(), timed(), timed()});
}

TrainPlan make_train_plan(const Recipe& recipe, const KvShape& source, const KvShape& target,
                          int64_t rows, const std::vector<std::string>& stages,
                          const std::string& device) {
  TrainPlan plan;
  plan.gemm_flops_per_second = measure_gemm_rate(device);
  const Sizes sizes = sizes_of(recipe.projector, source, target);
  const bool mlp = recipe.projector.kind == "mlp";
  const bool joint = recipe.projector.ridge.features == "both";
  const double n = static_cast<double>(rows);
  const int64_t row_floats = 2 * (source.layers * source.width() + target.layers * target.width());
  for (const std::string& stage : stages) {
    StageSizes s{.stage = stage};
    if (stage == "ridge") {
      const RidgeOptions& r = recipe.projector.ridge;
      const int64_t read = static_cast<int64_t>(ridge_candidates(r, source).size());
      const int64_t sums =
          RidgeSums::bytes(row_shape(source, r.previous_tokens), target, joint, read);
      const double problems = joint ? 1 : 2, per = joint ? 2 : 1;
      const double f = per * static_cast<double>(read * source.width());
      const double g = per * static_cast<double>(target.layers * target.width());
      s.steps = 1;
      s.rows_per_step = rows;
      s.parameters = sizes.ridge;
      s.flops = problems *
                (2 * n * f * (f + g) + 10 * f * f * f +
                 2 * f * f * g * static_cast<double>(recipe.projector.ridge.lambda.size() + 2));
      s.memory_bytes = static_cast<uint64_t>(4 * sums + 4096 * row_floats * 4 * 4);
      s.checkpoint_bytes = static_cast<uint64_t>(4 * sizes.ridge);
      s.rows_per_feature = n / static_cast<double>(sizes.features);
    } else {
      const bool distil = stage == "distillation";
      const BatchOptions& batch =
          distil ? recipe.train.distillation.batch : recipe.train.regression.batch;
      const int64_t items = distil ? recipe.train.distillation.items : rows;
      const int64_t micro = std::max<int64_t>(1, items / std::max<int64_t>(1, batch.size));
      s.steps = planned_steps(batch, micro);
      s.rows_per_step = batch.size * batch.accumulation;
      const bool train_base =
          distil ? recipe.train.distillation.train_base : recipe.train.regression.train_base;
      const int64_t over = sizes.change + (mlp ? sizes.mlp : 0);
      const int64_t weights = sizes.ridge + over;
      s.parameters = train_base || over == 0 ? weights : over;
      s.flops = 6.0 * static_cast<double>(weights) * static_cast<double>(s.rows_per_step) *
                static_cast<double>(s.steps);
      // Weights, gradients and two moments in float32; rows with their gradients and temporaries.
      s.memory_bytes = static_cast<uint64_t>(
          4 * weights + 12 * s.parameters +
          4 * batch.size * (4 * row_floats + (mlp ? sizes.mlp_activation : 0)));
      s.checkpoint_bytes = static_cast<uint64_t>(4 * weights + 12 * s.parameters);
    }
    s.seconds = s.flops / plan.gemm_flops_per_second;
    plan.stages.push_back(s);
  }
  return plan;
}

std::string TrainPlan::text(const Recipe& recipe, const KvShape& source, const KvShape& target,
                            int64_t rows, const std::string& device) const {
  std::string out = row("run", recipe.run_name());
  out += row("source", recipe.pair.source.name + ", " + source.describe());
  out += row("target", recipe.pair.target.name + ", " + target.describe());
  out += row("projector", recipe.projector.kind + ", " + recipe.projector.dtype);
  out += row("pairs", count_text(static_cast<double>(rows)) + " rows");
  char rate[64];
  std::snprintf(rate, sizeof rate, ", %.0f GFLOP/s measured", gemm_flops_per_second / 1e9);
  out += row("device", device + rate);
  for (const StageSizes& s : stages) {
    out += row(s.stage, count_text(static_cast<double>(s.steps)) + " steps of " +
                            count_text(static_cast<double>(s.rows_per_step)) +
                            (s.stage == "distillation" ? " contexts" : " rows") + ", " +
                            count_text(static_cast<double>(s.parameters)) + " parameters, about " +
                            duration_text(s.seconds) + " of products, " +
                            bytes_text(static_cast<double>(s.memory_bytes)) + " of memory, " +
                            bytes_text(static_cast<double>(s.checkpoint_bytes)) + " a checkpoint" +
                            (s.rows_per_feature > 0
                                 ? ", " + count_text(s.rows_per_feature) + " rows a feature"
                                 : ""));
  }
  return out;
}

nlohmann::ordered_json TrainPlan::to_json() const {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const StageSizes& s : stages) {
    nlohmann::ordered_json j;
    j["stage"] = s.stage;
    j["steps"] = s.steps;
    j["rows_per_step"] = s.rows_per_step;
    j["parameters"] = s.parameters;
    j["memory_bytes"] = s.memory_bytes;
    j["seconds"] = s.seconds;
    j["checkpoint_bytes"] = s.checkpoint_bytes;
    if (s.rows_per_feature > 0) j["rows_per_feature"] = s.rows_per_feature;
    all.push_back(j);
  }
  return all;
}

}  // namespace kvlingua
