// How long one operation takes: what rates of a machine are measured with.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <algorithm>

#include "kvlingua/cache/stage_meter.h"

namespace kvlingua {

// Seconds of one call, the best of a few: what the device can do, not what a neighbour left of it.
// `call` gives a tensor.
template <class Call>
double best_seconds(at::Device device, const Call& call) {
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

}  // namespace kvlingua
