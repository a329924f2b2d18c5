// The CUDA twins against the CPU kernels, in float32, float16 and bfloat16. Skips aloud without a
// device.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/kernels/gated_add.h"
#include "kvlingua/kernels/qkv_rope.h"
#include "kvlingua/kernels/rms_norm.h"
#include "kvlingua/kernels/silu_mul.h"

namespace kvlingua {
namespace {

class CudaKernels : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    if (at::getNumGPUs() == 0) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(0);
  }
  at::Tensor random(at::IntArrayRef size) const { return at::randn(size).to(GetParam()); }
  // Two roundings of the type at most, relative to the largest value.
  void expect_close(const at::Tensor& got, const at::Tensor& expected) const {
    const double unit = GetParam() == at::kFloat ? 1e-6 : GetParam() == at::kHalf ? 1e-3 : 8e-3;
    const at::Tensor a = got.to(at::kCPU, at::kFloat), b = expected.to(at::kFloat);
    EXPECT_LT((a - b).abs().max().item<double>(), 4 * unit * b.abs().max().item<double>());
  }
};
INSTANTIATE_TEST_SUITE_P(Types, CudaKernels,
                         ::testing::Values(at::kFloat, at::kHalf, at::kBFloat16),
                         [](const auto& info) { return std::string(at::toString(info.param)); });

TEST_P(CudaKernels, RmsNorm) {
  for (const int64_t width : {1, 64, 100, 1024, 5120}) {
    const at::Tensor x = random({3, 5, width}), delta = random({3, 5, width}), w = random({width});
    expect_close(rms_norm(x.cuda(), w.cuda(), 1e-6), rms_norm(x, w, 1e-6));
    const at::Tensor residual = x.cuda();
    expect_close(add_rms_norm_(residual, delta.cuda(), w.cuda(), 1e-6),
                 rms_norm(x + delta, w, 1e-6));
    expect_close(residual, x + delta);
  }
}

TEST_P(CudaKernels, SiluMul) {
  for (const int64_t width : {1, 48, 1000}) {
    const at::Tensor gate_up = random({7, 2 * width});
    expect_close(silu_mul(gate_up.cuda()), silu_mul(gate_up));
  }
}

TEST_P(CudaKernels, SplitQkvRope) {
  const int64_t B = 3, T = 5, Hq = 4, Hk = 2;
  for (const int64_t D : {16, 64, 128}) {
    for (const bool normed : {false, true}) {
      const at::Tensor qkv = random({B, T, (Hq + 2 * Hk) * D}), angle = at::randn({B, T, D / 2});
      QkvRope host{angle.cos(), angle.sin(), {}, {}, 1e-6};
      if (normed) host.q_norm = random({D}), host.k_norm = random({D});
      QkvRope device{host.cos.cuda(), host.sin.cuda(), normed ? host.q_norm.cuda() : at::Tensor(),
                     normed ? host.k_norm.cuda() : at::Tensor(), 1e-6};
      const auto outputs = [&](at::Device on) {
        const auto options = at::TensorOptions().dtype(GetParam()).device(on);
        return std::vector<at::Tensor>{at::zeros({B, Hq, T, D}, options),
                                       at::zeros({B, Hk, T + 2, D}, options),
                                       at::zeros({B, Hk, T + 2, D}, options)};
      };
      const auto a = outputs(at::kCPU), b = outputs(at::kCUDA);
      split_qkv_rope(qkv, host, a[0], a[1].narrow(2, 1, T), a[2].narrow(2, 1, T));
      split_qkv_rope(qkv.cuda(), device, b[0], b[1].narrow(2, 1, T), b[2].narrow(2, 1, T));
      for (size_t i = 0; i < 3; ++i) expect_close(b[i], a[i]);
    }
  }
}

TEST_P(CudaKernels, GatedAddForwardAndBack) {
  const int64_t T = 2, B = 3, H = 2, N = 5;
  for (const int64_t D : {16, 64, 100, 128}) {
    const GatedAdd host{random({T, B, H, N, D}),
                        random({T, B, H, N, D}),
                        random({2, T, B, N, H, D}),
                        random({2, T, B, N, H}),
                        random({2, T, B, N, H}),
                        random({2, T}),
                        (at::rand({T}) + .3).to(GetParam())};
    const auto run = [&](at::Device on) {
      const auto leaf = [&](const at::Tensor& x) { return x.to(on).clone().requires_grad_(true); };
      const GatedAdd in{leaf(host.keys),        leaf(host.values), leaf(host.projected),
                        leaf(host.score),       host.noise.to(on), leaf(host.logit),
                        host.temperature.to(on)};
      // The formula where there is no kernel: half types on the CPU.
      const auto [keys, values] = gated_add(in);
      (keys.to(at::kFloat).sum() + values.to(at::kFloat).square().sum()).backward();
      return std::vector<at::Tensor>{keys.detach(),    values.detach(),     in.keys.grad(),
                                     in.values.grad(), in.projected.grad(), in.score.grad(),
                                     in.logit.grad()};
    };
    const auto a = run(at::kCPU), b = run(at::kCUDA);
    for (size_t i = 0; i < a.size(); ++i) expect_close(b[i], a[i]);
  }
}

}  // namespace
}  // namespace kvlingua
