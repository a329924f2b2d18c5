#include "kvlingua/cache/rope.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/kernels/rotate_halves.h"

namespace kvlingua {
namespace {

at::Tensor llama3_frequencies(const RopeSpec& spec, const at::Tensor& inv_freq) {
  const double original = static_cast<double>(spec.original_max_position);
  const double low_wavelength = original / spec.low_freq_factor;
  const double high_wavelength = original / spec.high_freq_factor;
  const at::Tensor wavelength = (2.0 * M_PI) / inv_freq;
  const at::Tensor scaled =
      at::where(wavelength > low_wavelength, inv_freq / spec.factor, inv_freq);
  const at::Tensor smooth = (original / wavelength - spec.low_freq_factor) /
                            (spec.high_freq_factor - spec.low_freq_factor);
  const at::Tensor smoothed = (1 - smooth) * scaled / spec.factor + smooth * scaled;
  const at::Tensor medium =
      at::logical_and(wavelength >= high_wavelength, wavelength <= low_wavelength);
  return at::where(medium, smoothed, scaled);
}

at::Tensor yarn_frequencies(const RopeSpec& spec) {
  const double dim = static_cast<double>(spec.head_dim);
  // The channel pair that turns `rotations` times over the original context.
  const auto correction_dim = [&](double rotations) {
    return dim *
           std::log(static_cast<double>(spec.original_max_position) / (rotations * 2 * M_PI)) /
           (2 * std::log(spec.theta));
  };
  double low = correction_dim(spec.beta_fast);
  double high = correction_dim(spec.beta_slow);
  if (spec.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;  // the reference's guard against division by zero
  const at::Tensor exponent = at::arange(0, spec.head_dim, 2, at::kLong).to(at::kFloat) / dim;
  const at::Tensor frequency = at::pow(spec.theta, exponent);
  const at::Tensor extrapolated = 1.0 / frequency;
  const at::Tensor interpolated = 1.0 / (spec.factor * frequency);
  const at::Tensor ramp =
      ((at::arange(spec.head_dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const at::Tensor keep = 1 - ramp;
  return interpolated * (1 - keep) + extrapolated * keep;
}

// Of every rotation and device in use, made once: an upload a call would stop the host each time.
at::Tensor frequencies_on(const RopeSpec& spec, at::Device device) {
  struct Known {
    RopeSpec spec;
    at::Device device;
    at::Tensor frequencies;
  };
  static std::mutex mutex;
  static std::vector<Known> known;
  const std::lock_guard lock(mutex);
  for (const Known& one : known)
    if (one.device == device && one.spec == spec) return one.frequencies;
  const at::NoGradGuard no_grad;
  known.push_back({spec, device, inverse_frequencies(spec).to(device)});
  return known.back().frequencies;
}

}  // namespace

at::Tensor inverse_frequencies(const RopeSpec& spec) {
  if (spec.head_dim <= 0 || spec.head_dim % 2 != 0) {
    throw Error({.code = ExitCode::kInput,
                 .where = "rotary embedding",
                 .what = "head_dim cannot be split in halves",
                 .got = cat(spec.head_dim),
                 .expected = "a positive even number"});
  }
  if (spec.type == RopeType::kYarn) return yarn_frequencies(spec);
  const at::Tensor exponent = at::arange(0, spec.head_dim, 2, at::kLong).to(at::kFloat) /
                              static_cast<double>(spec.head_dim);
  const at::Tensor inv_freq = 1.0 / at::pow(spec.theta, exponent);
  if (spec.type == RopeType::kLinear) return inv_freq / spec.factor;
  if (spec.type == RopeType::kLlama3) return llama3_frequencies(spec, inv_freq);
  return inv_freq;
}

RopeTables rope_tables(const RopeSpec& spec, const at::Tensor& positions) {
  const at::Tensor inv_freq = frequencies_on(spec, positions.device());
  const at::Tensor angle = positions.to(at::kFloat).unsqueeze(-1) * inv_freq;
  RopeTables tables{angle.cos(), angle.sin()};
  if (spec.attention_factor != 1.0) {
    tables.cos.mul_(spec.attention_factor);
    tables.sin.mul_(spec.attention_factor);
  }
  return tables;
}

at::Tensor rope_rotate(const at::Tensor& x, const RopeTables& tables) {
  return rotate_halves(x, tables.cos, tables.sin);
}

at::Tensor rope_unrotate(const at::Tensor& x, const RopeTables& tables, const RopeSpec& spec) {
  return rope_rotate(x, unrotation_tables(spec, tables));
}

RopeTables unrotation_tables(const RopeSpec& spec, const RopeTables& tables) {
  // The tables hold a * (cos, sin); the inverse of a * R is R^T / a = (tables / a^2) transposed.
  const double inverse_square = 1.0 / (spec.attention_factor * spec.attention_factor);
  if (inverse_square == 1.0) return {tables.cos, tables.sin.neg()};
  return {tables.cos * inverse_square, tables.sin * -inverse_square};
}

RopeTables unrotation_tables(const RopeSpec& spec, const at::Tensor& positions) {
  return unrotation_tables(spec, rope_tables(spec, positions));
}

}  // namespace kvlingua
