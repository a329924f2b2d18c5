#include "kvlingua/model/preflight.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kvlingua/base/progress.h"
#include "kvlingua/cache/stage_meter.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/hub.h"
#include "kvlingua/io/system.h"

namespace kvlingua {
namespace {

using Clock = std::chrono::steady_clock;

// Seconds of one call, the best of a few: what the device can do, not what a neighbour left of it.
double best_seconds(at::Device device, const std::function<at::Tensor()>& call) {
  double best = 1e9;
  const double begin = StageMeter::now();
  for (int i = 0; i < 8; ++i) {
    const double start = StageMeter::now();
    const at::Tensor result = call();
    if (device.is_cuda()) result.flatten()[0].item();  // waits for the GPU
    best = std::min(best, StageMeter::now() - start);
    if (i >= 2 && StageMeter::now() - begin > 0.25) break;
  }
  return std::max(best, 1e-9);
}

double gemm_rate(at::Device device, at::ScalarType dtype) {
  const int64_t n = device.is_cuda() ? 4096 : 768;
  const at::Tensor a = at::ones({n, n}, at::TensorOptions(device).dtype(dtype));
  return 2.0 * std::pow(static_cast<double>(n), 3) /
         best_seconds(device, [&] { return at::matmul(a, a); });
}

// Of factors of a size that ridge groups have.
void solver_rates(at::Device device, MachineNumbers& m) {
  const int64_t n = 512;
  // No random numbers: a run's own generators stay where they are.
  const at::Tensor a =
      at::sin(at::arange(2 * n * n, at::TensorOptions(device).dtype(at::kDouble)).square())
          .view({n, 2 * n});
  const at::Tensor c = at::matmul(a, a.t()) / static_cast<double>(2 * n);
  const double cubed = std::pow(static_cast<double>(n), 3);
  m.flops_cholesky =
      cubed / 3 / best_seconds(device, [&] { return std::get<0>(at::linalg_cholesky_ex(c)); });
}

// More than a processor's cache holds.
double copy_rate(at::Device device) {
  const int64_t bytes = int64_t{256} << 20;
  const at::Tensor a = at::zeros({bytes}, at::TensorOptions(device).dtype(at::kByte));
  at::Tensor b = at::empty_like(a);
  return 2.0 * static_cast<double>(bytes) / best_seconds(device, [&] { return b.copy_(a); });
}

// On a GPU the caching allocator gives out memory that was touched before.
double first_touch_rate(at::Device device) {
  if (device.is_cuda()) return 1e12;
  const int64_t bytes = int64_t{128} << 20;
  return static_cast<double>(bytes) /
         best_seconds(device, [&] { return at::zeros({bytes / 8}, at::kDouble).add_(1); });
}

double launch_seconds(at::Device device) {
  const at::Tensor a = at::zeros({16}, at::TensorOptions(device));
  return best_seconds(device,
                      [&] {
                        at::Tensor x = a;
                        for (int i = 0; i < 200; ++i) x = at::add(x, a);
                        return x;
                      }) /
         200;
}

// Bytes a second written and synced where the run's files will be; a typical disk's where that
// cannot be tried.
double disk_rate(const std::filesystem::path& out) {
  constexpr double kTypical = 300e6;
  std::string name = (out / ".kvlingua-preflight-XXXXXX").string();
  const int file = mkstemp(name.data());
  if (file < 0) return kTypical;
  const std::string block(1 << 20, 'k');
  const Clock::time_point start = Clock::now();
  int64_t written = 0;
  for (int i = 0; i < 16; ++i) {
    const ssize_t count = write(file, block.data(), block.size());
    if (count <= 0) break;
    written += count;
  }
  fsync(file);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  close(file);
  unlink(name.c_str());
  return written > 0 && seconds > 0 ? static_cast<double>(written) / seconds : kTypical;
}

std::filesystem::path existing_parent(std::filesystem::path path) {
  std::error_code ignored;
  path = std::filesystem::absolute(path, ignored);
  while (!std::filesystem::exists(path, ignored) && path != path.parent_path())
    path = path.parent_path();
  return path;
}

int64_t dtype_bytes(const ModelOptions& options, at::Device device) {
  return static_cast<int64_t>(c10::elementSize(resolve_dtype(options.dtype, device)));
}

void find_problems(Preflight& p, const RunContext& context) {
  for (const ModelCheck* model : {&p.source, &p.target}) {
    if (!model->problem.empty()) p.problems.push_back(model->problem);
    if (p.source.name == p.target.name) break;
  }
  if (!p.facts.driver.empty() && !p.device.is_cuda() && context.device_asked != "cpu") {
    p.problems.push_back(cat(
        "a GPU with driver ", p.facts.driver, " is here, but this libtorch (CUDA ",
        p.facts.cuda_runtime.empty() ? "none" : p.facts.cuda_runtime,
        ") cannot use it; scripts/setup.sh picks one that the driver runs, or use --device cpu"));
  }
  const auto too_long = [&](const ModelCheck& model) {
    if (!model.known || model.config.max_position_embeddings >= p.recipe.data.max_length) return;
    p.problems.push_back(cat("data.max_length ", p.recipe.data.max_length, " is past the ",
                             model.config.max_position_embeddings, " positions of ", model.name));
  };
  too_long(p.source);
  too_long(p.target);
}

}  // namespace

void find_misfits(Preflight& p) {
  for (const StagePlan& stage : p.plan.stages) {
    if (stage.fits) continue;
    std::string line = cat(stage.name, " needs ", bytes_text(stage.memory), " of memory, ",
                           bytes_text(p.machine.memory), " are there; ");
    if (stage.largest_batch > 0) {
      line += cat("--set ", stage.batch_key, "=", stage.largest_batch, " fits");
    } else if (stage.name == "ridge") {
      line += "lower projector.ridge.candidate_layers";
    } else {
      line +=
          cat("not even one item fits: try data.sequential or layer_streaming, a smaller "
              "projector, or a larger ",
              p.device.is_cuda() ? "GPU" : "machine");
    }
    p.problems.push_back(line);
  }
  if (!p.plan.fits_disk) {
    p.problems.push_back(
        cat("disk: ", bytes_text(p.plan.disk), " are needed in ", p.out.string(), ", ",
            bytes_text(p.machine.disk_free),
            " are free; lower data.max_tokens, store data.storage_dtype int8, or use --out"));
  }
}

ModelNumbers numbers_of(const ModelConfig& c, int64_t compute_bytes) {
  ModelNumbers n;
  n.layers = c.num_layers, n.hidden = c.hidden_size, n.heads = c.num_heads,
  n.kv_heads = c.num_kv_heads, n.head_dim = c.head_dim;
  n.intermediate = c.intermediate_size, n.vocab = c.vocab_size,
  n.max_positions = c.max_position_embeddings;
  n.parameters = c.parameter_count();
  n.head_parameters = c.vocab_size * c.hidden_size * (c.tie_word_embeddings ? 1 : 2);
  n.compute_bytes = compute_bytes;
  return n;
}

ModelCheck check_model(const ModelOptions& options) {
  ModelCheck check;
  check.name = options.name;
  const std::string path = resolve_path(options.name);
  try {
    const std::filesystem::path directory = resolve_model(path, options.revision);
    check.config = ModelConfig::from_directory(directory);
    check.known = check.present = true;
    check.directory = directory.string();
  } catch (const Error& error) {
    check.problem = error.what();
    try {
      check.config = published_config(options.name);
      check.known = true;
    } catch (const Error&) {  // the shapes stay unknown, and `problem` says why
    }
  }
  return check;
}

MachineNumbers measure_machine(at::Device device, at::ScalarType dtype,
                               const std::filesystem::path& out) {
  MachineNumbers m;
  m.cuda = device.is_cuda();
  m.flops_float32 = gemm_rate(device, at::kFloat);
  m.flops = dtype == at::kFloat ? m.flops_float32 : gemm_rate(device, dtype);
  m.flops_float64 = gemm_rate(device, at::kDouble);
  solver_rates(device, m);
  m.bandwidth = copy_rate(device);
  m.first_touch = first_touch_rate(device);
  m.launch_seconds = launch_seconds(device);
  const std::filesystem::path folder = existing_parent(out);
  m.disk_rate = disk_rate(folder);
  m.disk_free = static_cast<double>(free_disk_bytes(folder));
  if (m.cuda) {
    // A context, cuBLAS workspaces and the caching allocator's rounding; a little is left for the
    // display.
    m.memory = 0.95 * static_cast<double>(device_facts(device).memory);
    m.base_memory = 800e6;
  } else {
    m.base_memory = static_cast<double>(current_rss_bytes());
    m.memory = static_cast<double>(available_memory_bytes()) + m.base_memory;
  }
  return m;
}

Preflight run_preflight(const Recipe& recipe, const RunContext& context, const CountCorpus& count) {
  Preflight p;
  p.recipe = recipe;
  p.out = context.paths.out;
  p.device = at::Device(context.device);
  p.facts = device_facts(p.device);
  p.source = check_model(recipe.pair.source);
  p.target = check_model(recipe.pair.target);
  p.machine = measure_machine(p.device, resolve_dtype(recipe.pair.target.dtype, p.device), p.out);
  try {
    p.corpus = count(recipe, p.target.directory);
  } catch (const Error& error) {
    p.problems.push_back(error.what());
  }
  if (p.source.known && p.target.known) {
    p.plan =
        make_plan(recipe, numbers_of(p.source.config, dtype_bytes(recipe.pair.source, p.device)),
                  numbers_of(p.target.config, dtype_bytes(recipe.pair.target, p.device)), p.corpus,
                  p.machine);
  }
  find_problems(p, context);
  find_misfits(p);
  return p;
}

}  // namespace kvlingua
