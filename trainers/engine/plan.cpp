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

int64_t row_floats(const KvShape& source, const KvShape& target) {
  return 2 * (source.layers * source.width() + target.layers * target.width());
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

StageSizes ridge_sizes(const Recipe& recipe, const PairIdentity& pair, int64_t rows) {
  const KvShape &source = pair.source.shape, &target = pair.target.shape;
  const RidgeOptions& r = recipe.projector.ridge;
  const Sizes sizes = sizes_of(recipe.projector, source, target);
  const bool joint = r.features == "both";
  const int64_t read = static_cast<int64_t>(ridge_candidates(r, source).size());
  const int64_t sums = RidgeSums::bytes(row_shape(source, r.previous_tokens), target, joint, read);
  const double problems = joint ? 1 : 2, per = joint ? 2 : 1, n = static_cast<double>(rows);
  const double f = per * static_cast<double>(read * source.width());
  const double g = per * static_cast<double>(target.layers * target.width());
  StageSizes s;
  s.steps = 1;
  s.rows_per_step = rows;
  s.parameters = sizes.ridge;
  s.flops =
      problems * (2 * n * f * (f + g) + 10 * f * f * f +
                  2 * f * f * g * static_cast<double>(recipe.projector.ridge.lambda.size() + 2));
  s.memory_bytes = static_cast<uint64_t>(4 * sums + 4096 * row_floats(source, target) * 4 * 4);
  s.checkpoint_bytes = static_cast<uint64_t>(4 * sizes.ridge);
  s.rows_per_feature = n / static_cast<double>(sizes.features);
  return s;
}

StageSizes gradient_sizes(const Recipe& recipe, const PairIdentity& pair, const BatchOptions& batch,
                          int64_t items, bool train_base) {
  const KvShape &source = pair.source.shape, &target = pair.target.shape;
  const Sizes sizes = sizes_of(recipe.projector, source, target);
  const bool mlp = recipe.projector.kind == "mlp";
  StageSizes s;
  s.steps = planned_steps(batch, std::max<int64_t>(1, items / std::max<int64_t>(1, batch.size)));
  s.rows_per_step = batch.size * batch.accumulation;
  const int64_t over = sizes.change + (mlp ? sizes.mlp : 0);
  const int64_t weights = sizes.ridge + over;
  s.parameters = train_base || over == 0 ? weights : over;
  s.flops = 6.0 * static_cast<double>(weights) * static_cast<double>(s.rows_per_step) *
            static_cast<double>(s.steps);
  // Weights, gradients and two moments in float32; rows with their gradients and temporaries.
  s.memory_bytes = static_cast<uint64_t>(
      4 * weights + 12 * s.parameters +
      4 * batch.size * (4 * row_floats(source, target) + (mlp ? sizes.mlp_activation : 0)));
  s.checkpoint_bytes = static_cast<uint64_t>(4 * weights + 12 * s.parameters);
  return s;
}

std::string TrainPlan::text() const {
  std::string out;
  for (const auto& [name, value] : lines) out += row(name, value);
  for (const StageSizes& s : stages) {
    std::string line = count_text(static_cast<double>(s.steps)) + " steps of " +
                       count_text(static_cast<double>(s.rows_per_step)) + " " + s.unit + ", " +
                       count_text(static_cast<double>(s.parameters)) + " parameters, about " +
                       duration_text(s.flops / gemm_flops_per_second) + " of products, ";
    if (s.memory_bytes > 0)
      line += bytes_text(static_cast<double>(s.memory_bytes)) + " of memory, ";
    line += bytes_text(static_cast<double>(s.checkpoint_bytes)) + " a checkpoint";
    if (s.rows_per_feature > 0) line += ", " + count_text(s.rows_per_feature) + " rows a feature";
    out += row(s.stage, line);
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
    j["seconds"] = s.flops / gemm_flops_per_second;
    j["checkpoint_bytes"] = s.checkpoint_bytes;
    if (s.rows_per_feature > 0) j["rows_per_feature"] = s.rows_per_feature;
    j.update(s.more);
    all.push_back(j);
  }
  return all;
}

}  // namespace kvlingua
