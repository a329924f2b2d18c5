// Rows of two caches with a known relation: each target layer is a linear map of all source layers
// plus noise, with means and scales that differ by channel.
#pragma once

#include <ATen/ATen.h>

#include <utility>

#include "kvlingua/projector/projector.h"

namespace kvlingua::support {

struct LinearPair {
  KvShape source, target;
  double noise;
  at::Tensor map[2], source_scale[2], source_mean[2], target_scale[2];
  bool nonlinear = false;  // adds a product of two channels

  LinearPair(const KvShape& s, const KvShape& t, uint64_t seed, double noise_level = 0.1)
      : source(s), target(t), noise(noise_level) {
    at::manual_seed(seed);
    const int64_t f = s.layers * s.width(), g = t.layers * t.width();
    for (int p = 0; p < 2; ++p) {
      map[p] = at::randn({f, g}) / std::sqrt(static_cast<double>(f));
      source_scale[p] = at::exp(at::randn({f}));
      source_mean[p] = at::randn({f}) * 2;
      target_scale[p] = at::exp(at::randn({g}) * 0.5);
    }
  }

  std::pair<CacheRows, CacheRows> rows(int64_t n, uint64_t seed) const {
    at::manual_seed(1000 + seed);
    CacheRows x, y;
    for (int p = 0; p < 2; ++p) {
      const at::Tensor z = at::randn({n, source.layers * source.width()});
      at::Tensor clean = at::mm(z, map[p]);
      if (nonlinear) clean = clean + at::mm(z * z.roll(1, 1), map[p]);
      const at::Tensor out = (clean + noise * at::randn(clean.sizes())) * target_scale[p] + 1.0;
      (p == 0 ? x.keys_NLHD : x.values_NLHD) =
          (z * source_scale[p] + source_mean[p])
              .view({n, source.layers, source.kv_heads, source.head_dim});
      (p == 0 ? y.keys_NLHD : y.values_NLHD) =
          out.view({n, target.layers, target.kv_heads, target.head_dim});
    }
    return {x, y};
  }
};

}  // namespace kvlingua::support
