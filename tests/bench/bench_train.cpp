// The ridge accumulation and a regression step at the shapes of Qwen2.5-0.5B -> Qwen3-0.6B, beside
// what the machine's matrix product reaches. One JSON line on stdout; scripts/bench/train.py runs
// the PyTorch peer of the regression step in turns with it.
//
//   bench_train ridge      [rows per block] [blocks]
//   bench_train regression [rows per step] [steps] [hidden]
#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench_clock.h"
#include "kvlingua/io/system.h"
#include "kvlingua/projector/mlp.h"
#include "kvlingua/projector/ridge_sums.h"
#include "trainers/engine/flat_adamw.h"
#include "trainers/engine/trainer.h"
#include "trainers/stages/loss.h"

namespace {

using namespace kvlingua;
using bench::median;
using bench::now;

const KvShape kSource{24, 2, 64}, kTarget{28, 8, 128};

// The machine's float32 matrix product, FLOP/s, at a size that fills it.
double gemm_rate() {
  const int64_t n = 3072;
  const at::Tensor a = at::randn({n, n}), b = at::randn({n, n});
  at::Tensor c = at::mm(a, b);
  std::vector<double> rates;
  for (int i = 0; i < 3; ++i) {
    const double begin = now();
    at::mm_out(c, a, b);
    rates.push_back(2.0 * n * n * n / (now() - begin));
  }
  return median(rates);
}

CacheRows random_rows(int64_t n, const KvShape& s) {
  return {at::randn({n, s.layers, s.kv_heads, s.head_dim}),
          at::randn({n, s.layers, s.kv_heads, s.head_dim})};
}

int bench_ridge(int64_t rows, int64_t blocks) {
  const double rate = gemm_rate();
  const CacheRows source = random_rows(rows, kSource), target = random_rows(rows, kTarget);
  RidgeSums sums(kSource, kTarget, /*joint=*/false);
  const double f = kSource.layers * kSource.width(), g = kTarget.layers * kTarget.width();
  std::vector<double> seconds;
  for (int64_t i = 0; i <= blocks; ++i) {
    const double begin = now();
    sums.add(source, target);
    if (i > 0) seconds.push_back(now() - begin);  // the first touches the memory
  }
  // Of the symmetric matrix only one half is work.
  const double reached = 2 * static_cast<double>(rows) * f * (f + 2 * g) / median(seconds);
  std::printf(
      "{\"bench\": \"ridge\", \"rows_per_block\": %lld, \"seconds_per_block\": %.4f, "
      "\"gflops\": %.1f, \"gemm_gflops\": %.1f, \"ratio\": %.3f, \"rows_per_second\": %.0f, "
      "\"seconds_for_200k\": %.0f, \"peak_bytes\": %llu}\n",
      static_cast<long long>(rows), median(seconds), reached / 1e9, rate / 1e9, reached / rate,
      static_cast<double>(rows) / median(seconds),
      200e3 * median(seconds) / static_cast<double>(rows),
      static_cast<unsigned long long>(peak_rss_bytes()));
  return 0;
}

int bench_regression(int64_t rows, int64_t steps, int64_t hidden) {
  const double rate = gemm_rate();
  MlpOptions options;
  options.hidden = hidden;
  MlpProjector projector(kSource, kTarget, {}, options);
  projector.set_training(true);
  const NamedTensors trained = trainable_parameters(projector, /*train_base=*/false);
  std::vector<bool> decay;
  for (const auto& [name, tensor] : trained) decay.push_back(decays(name));
  FlatAdamW optimizer(trained, decay, {});
  const CacheRows source = random_rows(rows, kSource), target = random_rows(rows, kTarget);
  const ChannelStatistics statistics = ChannelStatistics::identity(kTarget);
  std::vector<double> seconds;
  for (int64_t i = 0; i <= steps; ++i) {
    const double begin = now();
    optimizer.zero_grad();
    const NormalisedError error =
        normalised_error(projector.translate_rows(source), target, statistics);
    ((error.keys + error.values) / 2).backward();
    optimizer.clip(1.0);
    optimizer.step(1e-4);
    if (i > 0) seconds.push_back(now() - begin);
  }
  const double f = kSource.layers * kSource.width(), g = kTarget.width(), m = 2.0 * kTarget.layers;
  // Frozen linear map forward; input matrix forward and its gradient; output matrix all three.
  const double flops =
      2.0 * static_cast<double>(rows) * m *
      (f * g + 2 * f * static_cast<double>(hidden) + 3 * static_cast<double>(hidden) * g);
  std::printf(
      "{\"bench\": \"regression\", \"rows\": %lld, \"hidden\": %lld, \"parameters\": %lld, "
      "\"seconds_per_step\": %.4f, \"gflops\": %.1f, \"gemm_gflops\": %.1f, \"ratio\": %.3f}\n",
      static_cast<long long>(rows), static_cast<long long>(hidden),
      static_cast<long long>(optimizer.count()), median(seconds), flops / median(seconds) / 1e9,
      rate / 1e9, flops / median(seconds) / rate);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const auto number = [&](int i, long long fallback) {
    return argc > i ? std::atoll(argv[i]) : fallback;
  };
  if (what == "ridge") return bench_ridge(number(2, 4096), number(3, 3));
  if (what == "regression") return bench_regression(number(2, 256), number(3, 5), number(4, 512));
  std::fprintf(stderr, "usage: bench_train ridge|regression [rows] [repeats] [hidden]\n");
  return 2;
}
