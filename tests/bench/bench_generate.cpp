// Paired caches: generation end to end against prefill alone, the loader from the page cache,
// memory against corpus size.
//
//   bench_generate [--source DIR --target DIR] [--documents N] [--batch-tokens N] [--repeat N]
//                  [--writers N] [--shard-bytes N] [--only speed|loader|memory] [--models DIR]
// Without models: the shapes of the nano pair with random weights. Each number is the median of
// several runs.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "bench_clock.h"
#include "datasets/generate.h"
#include "datasets/generation/batch_plan.h"
#include "datasets/generation/pair_run.h"
#include "datasets/loading/pair_loader.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/io/system.h"
#include "kvlingua/projector/mlp.h"
#include "support/temp_dir.h"
#include "support/tiny_pair.h"
#include "trainers/engine/flat_adamw.h"
#include "trainers/engine/trainer.h"
#include "trainers/stages/loss.h"

namespace kvlingua {
namespace {

using bench::median;
using bench::now;

struct Arguments {
  std::string source, target, child, only;  // only: speed, loader or memory
  int64_t documents = 600, batch_tokens = 4096, repeat = 3;
  int64_t writers = 0, shard_bytes = 256 << 20;
};

// The nano pair's shapes (Qwen3-style source, Qwen2-style target) with random weights.
void save_nano_shapes(const std::filesystem::path& directory) {
  testing::save_tiny_model(directory / "source", Architecture::kQwen3, 790, 1, 5);
  testing::save_tiny_model(directory / "target", Architecture::kQwen2, 790, 2, 4);
  ModelConfig source = testing::tiny_config(Architecture::kQwen3),
              target = testing::tiny_config(Architecture::kQwen2);
  for (ModelConfig* c : {&source, &target})
    c->vocab_size = ModelConfig::from_directory(directory / "source").vocab_size;
  source.hidden_size = 160, source.intermediate_size = 320, source.num_layers = 5,
  source.head_dim = source.rope.head_dim = 64;
  target.hidden_size = 128, target.intermediate_size = 352, target.num_layers = 4,
  target.head_dim = target.rope.head_dim = 32;
  CausalLM::random(source, {}, 1).save(directory / "source", at::kFloat);
  CausalLM::random(target, {}, 2).save(directory / "target", at::kFloat);
}

Recipe recipe_for(const Arguments& a, const std::filesystem::path& models, int64_t documents) {
  Recipe recipe = testing::tiny_recipe(models);
  if (!a.source.empty()) {
    recipe.pair.source.name = a.source;
    recipe.pair.target.name = a.target;
    recipe.pair.source.chat = recipe.pair.target.chat = "auto";
    recipe.data.synthetic.style = "english";
  }
  recipe.data.synthetic.documents = documents;
  recipe.data.batch_tokens = a.batch_tokens;
  recipe.data.max_length = 512;
  recipe.data.shard_bytes = a.shard_bytes;
  return recipe;
}

// The same batches through both models, nothing kept.
double prefill_alone(const Recipe& recipe) {
  const CausalLM source = CausalLM::load(recipe.pair.source.name),
                 target = CausalLM::load(recipe.pair.target.name);
  const Tokenizer st = Tokenizer::from_directory(recipe.pair.source.name),
                  tt = Tokenizer::from_directory(recipe.pair.target.name);
  const SampleBuilder builder(TextReader::of(st, recipe.pair.source, source.config()),
                              TextReader::of(tt, recipe.pair.target, target.config()), recipe.data,
                              AlignmentKind::kLastChar, 1);
  const auto corpus = open_corpus(recipe.data);
  const BatchPlan plan = plan_batches(*corpus, builder, recipe.data, 1,
                                      {.source_row_bytes = 1, .target_row_bytes = 1});
  const PairSetInfo info;
  std::vector<std::vector<SampleRecord>> batches;
  for (int64_t b = 0; b < plan.batches(); ++b)
    batches.push_back(batch_records({*corpus, builder, plan, info}, b));
  const double start = now();
  for (const auto& batch : batches) {
    prefill_spans(source, builder.source().before, batch, Side::kSource);
    prefill_spans(target, builder.target().before, batch, Side::kTarget);
  }
  return now() - start;
}

// Peak memory of a process of its own that generates `documents`, as it says itself: what the
// system reports to a parent begins with the parent's own peak.
double peak_of_child(const Arguments& a, const std::filesystem::path& models, int64_t documents) {
  const TempDir out;
  const pid_t child = fork();
  if (child == 0) {
    const std::string n = std::to_string(documents), tokens = std::to_string(a.batch_tokens);
    execl("/proc/self/exe", "bench_generate", "--child", out.path().c_str(), "--models",
          models.c_str(), "--documents", n.c_str(), "--batch-tokens", tokens.c_str(), "--source",
          a.source.c_str(), "--target", a.target.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  double peak = 0;
  std::ifstream(out / "peak") >> peak;
  if (status != 0 || peak == 0) std::fprintf(stderr, "the child failed\n");
  return peak;
}

// A virtual machine gives free memory back to its host and gets it slowly again. Touching some puts
// every part that is timed into the same state: what is measured is this program.
void wake_memory(size_t bytes) {
  void* const room =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) return;
  std::memset(room, 1, bytes);
  munmap(room, bytes);
}

// Generation against prefill alone, in turns.
void bench_speed(const Arguments& a, const Recipe& recipe, const std::filesystem::path& out) {
  std::vector<double> alone, whole, loop, ratio;
  GenerateResult result;
  for (int64_t i = 0; i < a.repeat; ++i) {
    constexpr size_t kWoken = size_t{3} << 30;
    wake_memory(kWoken);
    alone.push_back(prefill_alone(recipe));
    std::filesystem::remove_all(out / "datasets");
    wake_memory(kWoken);
    const double start = now();
    result = generate(recipe, testing::tiny_context(out), a.writers);
    whole.push_back(now() - start);
    loop.push_back(measured_by_processor() ? result.cpu_seconds : result.seconds);
    ratio.push_back(alone.back() / loop.back());
  }
  const auto tokens = static_cast<double>(result.tokens);
  std::printf(
      "%lld samples, %.0f target tokens, %.1f MB, %d threads, median of %lld, seconds of %s\n",
      static_cast<long long>(result.samples), tokens, static_cast<double>(result.bytes) / 1e6,
      at::get_num_threads(), static_cast<long long>(a.repeat),
      measured_by_processor() ? "the processors" : "the wall");
  std::printf("prefill alone             %8.0f tokens/s   %6.2f s\n", tokens / median(alone),
              median(alone));
  std::printf("generate, models loaded   %8.0f tokens/s   %6.2f s   %5.1f %% of prefill alone\n",
              tokens / median(loop), median(loop), 100 * median(ratio));
  std::printf("generate, all of it       %8.0f tokens/s   %6.2f s   (plan, loading, hashing)\n",
              tokens / median(whole), median(whole));
  std::printf(
      "the last run              %8.2f s of the wall: %.2f prefill, %.2f waited for texts, %.3f "
      "for "
      "the writer\n",
      result.seconds, result.prefill_seconds, result.text_wait_seconds, result.write_wait_seconds);
  std::printf(
      "  of the processors       %8.2f s: %.2f reading and tokenising, %.2f taking and writing "
      "rows, "
      "%.2f publishing (hash)\n",
      result.cpu_seconds, result.text_cpu_seconds, result.rows_cpu_seconds,
      result.publish_cpu_seconds);
}

void bench_loader(const std::filesystem::path& set) {
  const PairReader probe = PairReader::open(set);
  const double row =
      static_cast<double>(probe.info().source_row_bytes() + probe.info().target_row_bytes());
  PairLoaderOptions options;
  options.batch_size = 2048;
  PairLoader loader(PairReader::open(set), options);
  const auto steps = std::max<int64_t>(20, 3 * loader.batches_per_epoch());
  for (int i = 0; i < 3; ++i) loader.next();
  double start = now();
  int64_t rows = 0;
  for (int64_t i = 0; i < steps; ++i) rows += loader.next()->rows.size();
  const double rate = static_cast<double>(rows) * row / (now() - start) / 1e9;
  std::printf("loader, aligned rows      %8.2f GB/s   %.2fM rows/s\n", rate,
              static_cast<double>(rows) / (now() - start) / 1e6);
  // Regression steps on what it gives: how long they wait for it.
  MlpOptions mlp;
  mlp.hidden = 128;
  MlpProjector projector(probe.info().source.shape, probe.info().target.shape, {}, mlp);
  projector.set_training(true);
  const NamedTensors trained = trainable_parameters(projector, /*train_base=*/false);
  std::vector<bool> decay;
  for (const auto& [name, tensor] : trained) decay.push_back(decays(name));
  FlatAdamW optimizer(trained, decay, {});
  const ChannelStatistics statistics = ChannelStatistics::identity(probe.info().target.shape);
  const double waited = loader.wait_seconds();
  start = now();
  constexpr int kSteps = 15;
  for (int i = 0; i < kSteps; ++i) {
    const auto batch = loader.next();
    optimizer.zero_grad();
    const NormalisedError error = normalised_error(
        projector.translate_rows({batch->rows.source_keys, batch->rows.source_values}),
        {batch->rows.target_keys, batch->rows.target_values}, statistics);
    ((error.keys + error.values) / 2).backward();
    optimizer.clip(1.0);
    optimizer.step(1e-4);
  }
  const double step = (now() - start) / kSteps;
  const double batch = static_cast<double>(options.batch_size) * row / (rate * 1e9);
  std::printf(
      "loader, regression steps  %8.1f ms a step of %lld rows, of which it waits %.1f %%; a batch "
      "takes the loader %.1f ms\n",
      1e3 * step, static_cast<long long>(options.batch_size),
      100 * (loader.wait_seconds() - waited) / (kSteps * step), 1e3 * batch);
}

int run(const Arguments& a, const std::filesystem::path& given_models) {
  set_log_level(LogLevel::kError);
  const TempDir own;
  std::filesystem::path models = given_models;
  if (models.empty()) models = own.path();
  if (a.source.empty() && !std::filesystem::exists(models / "source")) save_nano_shapes(models);
  const Recipe recipe = recipe_for(a, models, a.documents);
  if (!a.child.empty()) {
    generate(recipe, testing::tiny_context(a.child));
    std::ofstream(std::filesystem::path(a.child) / "peak")
        << static_cast<double>(peak_rss_bytes()) / (1 << 20);
    return 0;
  }
  const TempDir set;
  if (a.only != "memory") bench_speed(a, recipe, set.path());
  if (a.only.empty() || a.only == "loader") bench_loader(set / "datasets/tiny");
  if (a.only.empty() || a.only == "memory") {
    const double one = peak_of_child(a, models, a.documents),
                 ten = peak_of_child(a, models, 10 * a.documents);
    std::printf("peak memory               %8.0f MiB for %lld documents, %.0f MiB for %lld\n", one,
                static_cast<long long>(a.documents), ten, static_cast<long long>(10 * a.documents));
  }
  return 0;
}

}  // namespace
}  // namespace kvlingua

int main(int argc, char** argv) {
  kvlingua::Arguments a;
  std::filesystem::path models;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--source")
      a.source = value;
    else if (name == "--target")
      a.target = value;
    else if (name == "--child")
      a.child = value;
    else if (name == "--models")
      models = value;
    else if (name == "--only")
      a.only = value;
    else if (name == "--documents")
      a.documents = std::atoll(value.c_str());
    else if (name == "--batch-tokens")
      a.batch_tokens = std::atoll(value.c_str());
    else if (name == "--writers")
      a.writers = std::atoll(value.c_str());
    else if (name == "--shard-bytes")
      a.shard_bytes = std::atoll(value.c_str());
    else if (name == "--repeat")
      a.repeat = std::atoll(value.c_str());
    else
      return std::fprintf(stderr, "unknown option %s\n", name.c_str()), 2;
  }
  try {
    return kvlingua::run(a, models);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
