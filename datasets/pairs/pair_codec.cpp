#include "datasets/pairs/pair_codec.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace kvlingua {
namespace {

// The first of `count` words whose exponent is `least` or above; -1: none. Branch-free inside a
// block, so it vectorises.
template <class Word>
int64_t scan(const void* data, int64_t count, Word exponent, Word least) {
  const Word* words = static_cast<const Word*>(data);
  constexpr int64_t kBlock = 4096;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    Word bad = 0;
    for (int64_t i = begin; i < end; ++i) bad |= static_cast<Word>((words[i] & exponent) >= least);
    if (bad == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      if ((words[i] & exponent) >= least) return i;
    }
  }
  return -1;
}

}  // namespace

int64_t StoredRows::bytes() const {
  int64_t n = 0;
  for (const at::Tensor* t : {&keys, &values, &key_scales, &value_scales}) {
    if (t->defined()) n += static_cast<int64_t>(t->nbytes());
  }
  return n;
}

at::Tensor encode_rows(const at::Tensor& x, StorageType type, at::Tensor* scales) {
  if (type != StorageType::kInt8) return x.to(storage_scalar_type(type)).contiguous();
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scale = wide.abs().amax(-1, /*keepdim=*/true).div_(127.0);
  *scales = scale.squeeze(-1).contiguous();
  // A head of zeros has scale 0 and codes 0; the smallest normal float only keeps 0 / 0 away.
  return (wide / scale.clamp_min(1.17549435e-38))
      .round_()
      .clamp_(-127, 127)
      .to(at::kChar)
      .contiguous();
}

at::Tensor decode_rows(const at::Tensor& stored, const at::Tensor& scales, at::ScalarType dtype) {
  if (stored.scalar_type() != at::kChar) return stored.to(dtype).contiguous();
  return (stored.to(at::kFloat) * scales.unsqueeze(-1)).to(dtype).contiguous();
}

StorageError storage_error(const at::Tensor& x, const at::Tensor& stored,
                           const at::Tensor& scales) {
  if (x.numel() == 0 || stored.is_same(x)) return {};
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor difference = decode_rows(stored, scales, at::kFloat) - wide;
  const double norm = wide.norm().item<double>();
  return {norm > 0 ? difference.norm().item<double>() / norm : 0.0,
          difference.abs().max().item<double>()};
}

int64_t first_unusable(const at::Tensor& x) {
  static_assert(kLargestUsable == 0x1p50);  // exponent 127 + 50, in the bits below
  switch (x.scalar_type()) {
    case at::kFloat:
      return scan<uint32_t>(x.const_data_ptr(), x.numel(), 0x7F800000U, 177U << 23);
    case at::kHalf:  // holds nothing that large
      return scan<uint16_t>(x.const_data_ptr(), x.numel(), 0x7C00U, 0x7C00U);
    case at::kBFloat16:
      return scan<uint16_t>(x.const_data_ptr(), x.numel(), 0x7F80U, 177U << 7);
    default:
      return -1;
  }
}

}  // namespace kvlingua
