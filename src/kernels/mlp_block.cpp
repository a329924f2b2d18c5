#include "kvlingua/kernels/mlp_block.h"

#include <ATen/ATen.h>

#include "cpu.h"
#include "kvlingua/kernels/dense.h"
#include "norm_rows.h"

namespace kvlingua::mlp_block {
namespace {

// A hash of 32 bits (Wellons, "lowbias32"): every input bit flips every output bit half the time.
inline __attribute__((always_inline)) uint32_t scramble(uint32_t h) {
  h ^= h >> 16;
  h *= 0x7feb352dU;
  h ^= h >> 15;
  h *= 0x846ca68bU;
  return h ^ (h >> 16);
}

struct Draw {
  uint32_t first, second, threshold;
  float scale;
  explicit Draw(const Dropout& d)
      : first(static_cast<uint32_t>(d.seed)),
        second(static_cast<uint32_t>(d.seed >> 32)),
        threshold(static_cast<uint32_t>(d.p * 4294967296.0)),
        scale(static_cast<float>(1.0 / (1.0 - d.p))) {}
  inline __attribute__((always_inline)) float operator()(uint32_t i) const {
    return scramble(scramble(i ^ first) + second) >= threshold ? scale : 0.0f;
  }
};

KVLINGUA_CLONES void add_dropped(const float* x, float* z, Draw draw, int64_t n) {
  for (int64_t i = 0; i < n; ++i) z[i] = x[i] + draw(static_cast<uint32_t>(i)) * z[i];
}

KVLINGUA_CLONES void dropped(const float* dy, float* dz, Draw draw, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dz[i] = draw(static_cast<uint32_t>(i)) * dy[i];
}

// dw += dy^T x
void add_outer(const at::Tensor& dw, const at::Tensor& dy, const at::Tensor& x) {
  dw.add_(dense(dy.t(), x.t()));
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) {
  return dense(x, w, b);
}

at::Tensor linear_backward(const at::Tensor& x, const at::Tensor& w, const at::Tensor& dy,
                           const at::Tensor& dw, const at::Tensor& db, bool want_dx) {
  add_outer(dw, dy, x);
  db.add_(dy.sum(0));
  return want_dx ? dense(dy, w.t()) : at::Tensor();
}

at::Tensor forward(const Weights& w, const at::Tensor& x, const Dropout& dropout, Saved* saved) {
  const int64_t rows = x.size(0), width = x.size(1);
  at::Tensor normed = at::empty_like(x), inverse = at::empty({rows}, x.options());
  cpu::norm_rows(x.const_data_ptr<float>(), w.norm.const_data_ptr<float>(),
                 normed.data_ptr<float>(), inverse.data_ptr<float>(), rows, width,
                 static_cast<float>(kEps));
  at::Tensor inner = dense(normed, w.w1), active = at::gelu(inner);
  at::Tensor out = dense(active, w.w2);
  if (dropout.p > 0) {
    add_dropped(x.const_data_ptr<float>(), out.data_ptr<float>(), Draw(dropout), out.numel());
  } else {
    out.add_(x);
  }
  if (saved != nullptr) *saved = {x, normed, inverse, inner, active};
  return out;
}

at::Tensor backward(const Weights& w, const Saved& saved, const Dropout& dropout,
                    const at::Tensor& dy, const Weights& gradients) {
  at::Tensor dz = dy;
  if (dropout.p > 0) {
    dz = at::empty_like(dy);
    dropped(dy.const_data_ptr<float>(), dz.data_ptr<float>(), Draw(dropout), dy.numel());
  }
  add_outer(gradients.w2, dz, saved.active);
  const at::Tensor d_inner = at::gelu_backward(dense(dz, w.w2.t()), saved.inner);
  add_outer(gradients.w1, d_inner, saved.normed);
  const at::Tensor d_normed = dense(d_inner, w.w1.t());
  at::Tensor dx = dy.clone();
  cpu::norm_backward_rows(saved.x.const_data_ptr<float>(), w.norm.const_data_ptr<float>(),
                          saved.inverse.const_data_ptr<float>(), d_normed.const_data_ptr<float>(),
                          dx.data_ptr<float>(), gradients.norm.data_ptr<float>(), dx.size(0),
                          dx.size(1));
  return dx;
}

}  // namespace kvlingua::mlp_block
