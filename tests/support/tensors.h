// Reading the tensors of a golden file.
#pragma once

#include <ATen/ATen.h>

#include <cstring>
#include <map>

#include "kvlingua/io/safetensors.h"

namespace kvlingua::testing {

inline at::Tensor tensor_of(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsView& view = file.at(name);
  static const std::map<SafetensorsDtype, at::ScalarType> types{
      {SafetensorsDtype::kI64, at::kLong},      {SafetensorsDtype::kF32, at::kFloat},
      {SafetensorsDtype::kBF16, at::kBFloat16}, {SafetensorsDtype::kF16, at::kHalf},
      {SafetensorsDtype::kU8, at::kByte},       {SafetensorsDtype::kI8, at::kChar}};
  const auto known = types.find(view.dtype);
  TORCH_CHECK(known != types.end(), name, ": of a type that no golden has");
  const at::ScalarType type = known->second;
  at::Tensor tensor = at::empty(view.shape, type);
  TORCH_CHECK(view.data.size() == static_cast<size_t>(tensor.nbytes()));
  std::memcpy(tensor.mutable_data_ptr(), view.data.data(), view.data.size());
  return tensor;
}

inline double distance(const at::Tensor& a, const at::Tensor& b) {
  TORCH_CHECK(a.sizes() == b.sizes(), a.sizes(), " against ", b.sizes());
  return a.numel() == 0 ? 0 : (a - b).abs().max().item<double>();
}

inline std::vector<int64_t> ids_of(const at::Tensor& t) {
  const at::Tensor flat = t.contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

}  // namespace kvlingua::testing
