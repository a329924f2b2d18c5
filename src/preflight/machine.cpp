// The rates that preflight plans with, measured on this machine: solvers, copies,
// kernel starts, the disk.
#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cmath>

#include "kvlingua/cost/best_seconds.h"
#include "kvlingua/io/system.h"
#include "kvlingua/preflight/preflight.h"

namespace kvlingua {
namespace {

using Clock = std::chrono::steady_clock;

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

}  // namespace

MachineNumbers measure_machine(at::Device device, at::ScalarType dtype,
                               const std::filesystem::path& out) {
  MachineNumbers m;
  set_memory(m, device);
  m.flops_float32 = product_rate(device, at::kFloat);
  m.flops = dtype == at::kFloat ? m.flops_float32 : product_rate(device, dtype);
  m.flops_float64 = product_rate(device, at::kDouble);
  solver_rates(device, m);
  m.bandwidth = copy_rate(device);
  m.first_touch = first_touch_rate(device);
  m.launch_seconds = launch_seconds(device);
  const std::filesystem::path folder = existing_parent(out);
  m.disk_rate = disk_rate(folder);
  m.disk_free = static_cast<double>(free_disk_bytes(folder));
  return m;
}

}  // namespace kvlingua
