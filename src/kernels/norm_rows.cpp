#include "norm_rows.h"

#include <cmath>

#include "cpu.h"

namespace kvlingua::cpu {

KVLINGUA_CLONES void norm_rows(const float* x, const float* weight, float* y, float* inverse,
                               int64_t rows, int64_t width, float eps) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = x + row * width;
    float* out = y + row * width;
    const float square = lane_sum(width, [&](int64_t i) { return in[i] * in[i]; });
    const float scale = 1.0f / std::sqrt(square / static_cast<float>(width) + eps);
    for (int64_t i = 0; i < width; ++i) out[i] = weight[i] * (in[i] * scale);
    if (inverse != nullptr) inverse[row] = scale;
  }
}

KVLINGUA_CLONES void norm_backward_rows(const float* x, const float* weight, const float* inverse,
                                        const float* dy, float* dx, float* dw, int64_t rows,
                                        int64_t width) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = x + row * width;
    const float* g = dy + row * width;
    float* out = dx + row * width;
    const float r = inverse[row];
    const float dot = lane_sum(width, [&](int64_t i) { return g[i] * weight[i] * in[i]; });
    const float c = dot * r * r * r / static_cast<float>(width);
    for (int64_t i = 0; i < width; ++i) out[i] += r * weight[i] * g[i] - c * in[i];
    if (dw == nullptr) continue;
    for (int64_t i = 0; i < width; ++i) dw[i] += g[i] * in[i] * r;
  }
}

}  // namespace kvlingua::cpu
