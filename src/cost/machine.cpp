// What this machine has: the rate of its products, measured here and nowhere else, and its memory.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "kvlingua/cache/device.h"
#include "kvlingua/cost/best_seconds.h"
#include "kvlingua/cost/numbers.h"
#include "kvlingua/io/system.h"

namespace kvlingua {

double product_rate(at::Device device, at::ScalarType dtype) {
  const int64_t n = device.is_cuda() ? 4096 : 768;
  const at::Tensor a = at::ones({n, n}, at::TensorOptions(device).dtype(dtype));
  return 2.0 * std::pow(static_cast<double>(n), 3) /
         best_seconds(device, [&] { return at::matmul(a, a); });
}

at::ScalarType fastest_type(at::Device device) {
  if (device.is_cpu()) return at::kFloat;
  return device_facts(device).bfloat16 ? at::kBFloat16 : at::kHalf;
}

void set_memory(MachineNumbers& m, at::Device device) {
  m.cuda = device.is_cuda();
  if (m.cuda) {
    // A context, cuBLAS workspaces and the caching allocator's rounding; a little is left for the
    // display.
    m.memory = 0.95 * static_cast<double>(device_facts(device).memory);
    m.base_memory = 800e6;
  } else {
    m.base_memory = static_cast<double>(current_rss_bytes());
    m.memory = static_cast<double>(available_memory_bytes()) + m.base_memory;
  }
}

}  // namespace kvlingua
