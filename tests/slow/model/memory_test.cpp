// What a model costs, measured: memory of loading and reading beside what must be held, of a
// streamed model beside a resident one, and processor time of loading beside reading the file.
//
// Each measurement is a child process's high-water mark, so that nothing measured before counts.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <numeric>

#include "kvlingua/model/causal_lm.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

double status_mib(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / 1024;
  }
  return 0;
}

// Runs `work` in a child; gives what it returns.
double in_child(const std::function<double()>& work) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    at::set_num_threads(1);
    const double result = work();
    const bool written = write(ends[1], &result, sizeof result) == sizeof result;
    _exit(written ? 0 : 1);
  }
  double result = -1;
  EXPECT_EQ(read(ends[0], &result, sizeof result), static_cast<ssize_t>(sizeof result));
  close(ends[0]);
  close(ends[1]);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  return result;
}

// 24 layers of 8.9 million weights under a small vocabulary: 855 MiB in float32.
ModelConfig config() {
  ModelConfig c;
  c.architecture = Architecture::kLlama;
  c.vocab_size = 2048;
  c.hidden_size = 896;
  c.intermediate_size = 2560;
  c.num_layers = 24;
  c.num_heads = 14;
  c.num_kv_heads = 2;
  c.head_dim = c.rope.head_dim = 64;
  c.max_position_embeddings = 8192;
  return c;
}

constexpr int64_t kRows = 2, kTokens = 1024;

TokenBatch batch() {
  std::vector<int64_t> ids(kTokens);
  std::iota(ids.begin(), ids.end(), 0);
  return TokenBatch::from_rows({ids, ids});
}

class Memory : public ::testing::Test {
 protected:
  // The files are made in a child, so that this process has never held a model.
  static void SetUpTestSuite() {
    folder_ = new TempDir;
    in_child([] {
      CausalLM::random(config()).save(folder_->path(), at::kFloat);
      return 0.0;
    });
  }
  static void TearDownTestSuite() { delete folder_; }
  // MiB above the program itself.
  static double peak_of(const LoadOptions& options, bool read) {
    return in_child([&] {
      const TokenBatch tokens = batch();
      const double before = status_mib("VmRSS");
      const CausalLM model = CausalLM::load(folder_->path(), options);
      if (read) model.prefill(tokens);
      return status_mib("VmHWM") - before;
    });
  }
  static TempDir* folder_;
};
TempDir* Memory::folder_ = nullptr;

// A row's block of a layer: residual, normalised, queries, keys and values, attended, gate and up,
// gated, down; float32.
double activations_mib() {
  const ModelConfig c = config();
  const double width = 4.0 * static_cast<double>(c.hidden_size) +
                       2.0 * static_cast<double>(c.num_heads * c.head_dim) +
                       2.0 * static_cast<double>(c.num_kv_heads * c.head_dim) +
                       3.0 * static_cast<double>(c.intermediate_size);
  return kRows * kTokens * width * 4 / kMiB;
}

TEST_F(Memory, WeightsCacheAndOneLayersActivations) {
  const double weights = static_cast<double>(config().parameter_count()) * 4 / kMiB;
  const double cache =
      static_cast<double>(kRows * kTokens * config().kv_shape().bytes_per_token(4)) / kMiB;
  const double bound = weights + cache + activations_mib();
  const double peak = peak_of({}, true);
  std::printf("weights %.0f MiB, cache %.0f, activations %.0f; peak %.0f MiB: %.3f of their sum\n",
              weights, cache, activations_mib(), peak, peak / bound);
  EXPECT_GT(peak, weights);  // else nothing was measured
  EXPECT_LT(peak, 1.15 * bound);
}

TEST_F(Memory, LoadingNeedsLittleBesideTheWeights) {
  const double weights = static_cast<double>(config().parameter_count()) * 4 / kMiB;
  const double peak = peak_of({}, false);
  std::printf("weights %.0f MiB; peak of loading %.0f MiB\n", weights, peak);
  EXPECT_GT(peak, 0.95 * weights);
  EXPECT_LT(peak, 1.05 * weights);
}

TEST_F(Memory, StreamingHoldsOneLayer) {
  const ModelConfig c = config();
  const double outside =
      static_cast<double>(c.vocab_size * c.hidden_size) * 4 / kMiB;  // tied: once
  const double layer = (static_cast<double>(c.parameter_count()) * 4 / kMiB - outside) /
                       static_cast<double>(c.num_layers);
  const double cache =
      static_cast<double>(kRows * kTokens * c.kv_shape().bytes_per_token(4)) / kMiB;
  const double resident = peak_of({}, true), streamed = peak_of({.layer_streaming = true}, true);
  std::printf(
      "peak resident %.0f MiB, streamed %.0f MiB (a layer is %.0f, outside the layers %.0f, cache "
      "%.0f)\n",
      resident, streamed, layer, outside, cache);
  // A layer twice: in place, and in the pages of the file it is copied from.
  EXPECT_LT(streamed, 1.15 * (outside + 2 * layer + cache + activations_mib()));
  EXPECT_LT(streamed, 0.35 * resident);
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Processor time, which other work on the machine does not touch: a load that copied twice, or
// hashed, or parsed, would show. Beside reading in the same minutes: what new memory costs changes
// by half from hour to hour where a host hands it out.
TEST_F(Memory, LoadingCostsTheProcessorHardlyMoreThanReadingTheFile) {
  const std::string file = (folder_->path() / "model.safetensors").string();
  const auto plain = [&] {
    return in_child([&] {
      const auto size = static_cast<int64_t>(std::filesystem::file_size(file));
      const double begin = cpu_seconds();
      const at::Tensor bytes = at::empty({size}, at::kByte);
      const int fd = open(file.c_str(), O_RDONLY);
      int64_t got = 0;
      for (ssize_t n = 1; got < size && n > 0; got += n)
        n = read(fd, bytes.data_ptr<uint8_t>() + got,
                 static_cast<size_t>(std::min<int64_t>(size - got, 1 << 22)));
      close(fd);
      return got == size ? cpu_seconds() - begin : -1.0;
    });
  };
  const auto load = [&] {
    return in_child([&] {
      const double begin = cpu_seconds();
      const CausalLM model = CausalLM::load(folder_->path());
      return cpu_seconds() - begin;
    });
  };
  std::vector<double> reading, loading;
  for (int i = 0; i < 5; ++i) reading.push_back(plain()), loading.push_back(load());
  std::sort(reading.begin(), reading.end());
  std::sort(loading.begin(), loading.end());
  const double gigabytes = static_cast<double>(std::filesystem::file_size(file)) / 1e9;
  std::printf("%.2f GB: read(2) %.3f s of processor time, load %.3f s (%.1f GB/s)\n", gigabytes,
              reading[2], loading[2], gigabytes / loading[2]);
  ASSERT_GT(reading[2], 0);
  EXPECT_LT(loading[2], 2 * reading[2]);
}

}  // namespace
}  // namespace kvlingua
