// A training step of the Cache-to-Cache stage at the shapes its own benchmark uses, random weights,
// beside what the machine's matrix product reaches. One JSON line on stdout; scripts/bench/c2c.py
// runs Cache-to-Cache's own code in turns with it.
//
//   bench_c2c [nano|real] [batch] [sequence] [accumulation] [steps] [cpu|cuda] [float32|bfloat16]
//
// A step is what the stage does: read the prompt with both models, fuse, read the answer, go back,
// clip, AdamW. Every batch is new, so no source cache is kept from step to step. On a GPU
// peak_bytes is what the caching allocator took, and both product rates are at::mm's.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench_clock.h"
#include "kvlingua/base/random.h"
#include "kvlingua/cache/stage_meter.h"
#include "kvlingua/kernels/dense.h"
#include "trainers/c2c/c2c_policy.h"
#include "trainers/c2c/fusion_objective.h"
#include "trainers/engine/trainer.h"

namespace {

using namespace kvlingua;
using bench::median;
using bench::now;

// The matrix product of at::mm, and of this program's own (kernels/dense.h), FLOP/s.
template <class F>
double product_rate(at::Device device, at::ScalarType dtype, F product) {
  const int64_t n = device.is_cuda() ? 8192 : 2048;
  const auto options = at::TensorOptions(device).dtype(dtype);
  const at::Tensor a = at::randn({n, n}, options), b = at::randn({n, n}, options);
  const auto done = [&] { product(a, b).flatten()[0].item(); };  // waits for a GPU
  done();
  std::vector<double> rates;
  for (int i = 0; i < 3; ++i) {
    const double begin = now();
    done();
    rates.push_back(2.0 * n * n * n / (now() - begin));
  }
  return median(rates);
}

ModelConfig model(Architecture architecture, int64_t vocab, int64_t hidden, int64_t inner,
                  int64_t layers, int64_t heads, int64_t kv_heads, int64_t dim) {
  ModelConfig c;
  c.architecture = architecture;
  c.vocab_size = vocab;
  c.hidden_size = hidden;
  c.intermediate_size = inner;
  c.num_layers = layers;
  c.num_heads = heads;
  c.num_kv_heads = kv_heads;
  c.head_dim = dim;
  c.max_position_embeddings = 4096;
  c.tie_word_embeddings = true;
  c.qkv_bias = architecture == Architecture::kQwen2;
  c.qk_norm = architecture == Architecture::kQwen3;
  c.rope.theta = 1e6;
  c.rope.head_dim = dim;
  return c;
}

// Keeps the time of every step.
class Clock : public Observer {
 public:
  Clock(std::vector<double>& seconds, std::vector<double>& losses)
      : seconds_(seconds), losses_(losses), last_(now()) {}
  void step(const StepReport& report) override {
    seconds_.push_back(now() - last_);
    losses_.push_back(report.loss);
    last_ = now();
  }

 private:
  std::vector<double>&seconds_, &losses_;
  double last_;
};

double parameters_of(const ModelConfig& c, bool head) {
  return static_cast<double>(c.parameter_count() - (head ? 0 : c.vocab_size * c.hidden_size));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string preset = argc > 1 ? argv[1] : "nano";
  const auto number = [&](int i, long long fallback) {
    return static_cast<int64_t>(argc > i ? std::atoll(argv[i]) : fallback);
  };
  const bool nano = preset == "nano";
  const int64_t batch = number(2, nano ? 4 : 1), sequence = number(3, 128),
                accumulation = number(4, 1), steps = number(5, 5), vocab = nano ? 2048 : 151936;
  const ModelConfig to = nano ? model(Architecture::kQwen3, vocab, 128, 384, 4, 4, 2, 32)
                              : model(Architecture::kQwen3, vocab, 1024, 3072, 28, 16, 8, 128);
  const ModelConfig from = nano ? model(Architecture::kQwen2, vocab, 96, 256, 3, 3, 1, 32)
                                : model(Architecture::kQwen2, vocab, 896, 4864, 24, 14, 2, 64);
  const at::Device device(argc > 6 ? argv[6] : "cpu");
  const at::ScalarType dtype =
      argc > 7 && std::string(argv[7]) == "bfloat16" ? at::kBFloat16 : at::kFloat;
  const auto mm = [](const at::Tensor& a, const at::Tensor& b) { return at::mm(a, b); };
  const auto own = [](const at::Tensor& a, const at::Tensor& b) { return dense(a, b); };
  const double plain = product_rate(device, dtype, mm),
               ours = device.is_cpu() && dtype == at::kFloat ? product_rate(device, dtype, own)
                                                             : plain;
  const LoadOptions there{.device = device, .dtype = dtype};
  const CausalLM target = CausalLM::random(to, there, 1), source = CausalLM::random(from, there, 2);
  C2CProjector projector(source.kv_shape(), target.kv_shape(), {}, 3);  // the recipe's
  projector.to(device, dtype);
  reset_peak_memory(device);

  Random random(5);
  std::vector<FusionItem> items;
  for (int64_t i = 0; i < (steps + 1) * batch * accumulation; ++i) {
    FusionItem item{.prompt = static_cast<int32_t>(sequence / 2)};
    for (int64_t t = 0; t < sequence; ++t)
      item.target_ids.push_back(
          static_cast<int32_t>(2 + random.below(static_cast<uint64_t>(vocab - 2))));
    items.push_back(std::move(item));
  }
  FusionObjectiveOptions options{.in_order = true};
  options.train.batch.size = batch;
  options.train.train_ratio = 1;
  options.train.source_cache = "none";
  FusionObjective objective(projector, source, target, items, options);
  TrainerOptions how;
  how.optimizer = options.train.optimizer;
  how.accumulation = accumulation;
  how.total_steps = steps + 1;
  how.log_every = 1;
  how.policy = c2c_policy();
  std::vector<double> seconds, losses;
  Observers observers;
  observers.push_back(std::make_unique<Clock>(seconds, losses));
  Trainer trainer(projector, objective, how, observers,
                  [](const Checkpoint&) { return std::string(); });
  TrainState state;
  trainer.fit(state);
  seconds.erase(seconds.begin());  // the first touches the memory

  // Products a step cannot do without: the projector forward, and twice that back, over the fused
  // tokens; both models over the prompt (no head); the target over the answer, once more for the
  // gradient of its activations.
  const double fused = static_cast<double>(batch * accumulation * (sequence / 2 - 1));
  const double answer = static_cast<double>(batch * accumulation * (sequence - sequence / 2));
  const double flops = 2 * fused *
                           (3 * static_cast<double>(projector.parameter_count()) +
                            parameters_of(from, false) + parameters_of(to, false)) +
                       2 * answer * 2 * parameters_of(to, true);
  const double step = median(seconds);
  std::printf(
      "{\"bench\": \"c2c-step\", \"preset\": \"%s\", \"batch\": %lld, \"sequence\": %lld, "
      "\"accumulation\": %lld, \"threads\": %d, \"parameters\": %lld, \"seconds_per_step\": %.4f, "
      "\"fastest\": %.4f, \"slowest\": %.4f, \"gflop_per_step\": %.1f, \"gflops\": %.1f, "
      "\"mm_gflops\": %.1f, \"dense_gflops\": %.1f, \"share_of_mm\": %.3f, \"share_of_dense\": "
      "%.3f, "
      "\"first_loss\": %.4f, \"last_loss\": %.4f, \"peak_bytes\": %llu}\n",
      preset.c_str(), static_cast<long long>(batch), static_cast<long long>(sequence),
      static_cast<long long>(accumulation), at::get_num_threads(),
      static_cast<long long>(projector.parameter_count()), step,
      *std::min_element(seconds.begin(), seconds.end()),
      *std::max_element(seconds.begin(), seconds.end()), flops / 1e9, flops / step / 1e9,
      plain / 1e9, ours / 1e9, flops / step / plain, flops / step / ours, losses.front(),
      losses.back(), static_cast<unsigned long long>(peak_memory_bytes(device)));
  return 0;
}
