// Rows of RMS normalisation on the CPU, forward and backward, in float32; rms_norm.cpp and
// mlp_block.cpp share them. All arrays are dense [rows, width].
#pragma once

#include <cstdint>

namespace kvlingua::cpu {

// y = weight * x / rms(x); keeps 1 / rms of each row in `inverse` unless that is null.
void norm_rows(const float* x, const float* weight, float* y, float* inverse, int64_t rows,
               int64_t width, float eps);

// dx += r (w dy) - x r^3 mean(w dy x) and, unless dw is null, dw += dy x r; r = `inverse`.
void norm_backward_rows(const float* x, const float* weight, const float* inverse, const float* dy,
                        float* dx, float* dw, int64_t rows, int64_t width);

}  // namespace kvlingua::cpu
