#include "kvlingua/cache/tensor_file.h"

#include <ATen/ATen.h>

#include <cstring>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/io/safetensors_writer.h"

namespace kvlingua {
namespace {

constexpr std::pair<SafetensorsDtype, at::ScalarType> kTypes[] = {
    {SafetensorsDtype::kF32, at::kFloat},
    {SafetensorsDtype::kF64, at::kDouble},
    {SafetensorsDtype::kBF16, at::kBFloat16},
    {SafetensorsDtype::kF16, at::kHalf},
    {SafetensorsDtype::kI64, at::kLong},
    {SafetensorsDtype::kI32, at::kInt},
    {SafetensorsDtype::kI16, at::kShort},
    {SafetensorsDtype::kI8, at::kChar},
    {SafetensorsDtype::kU8, at::kByte},
    {SafetensorsDtype::kBool, at::kBool},
    {SafetensorsDtype::kF8E4M3, at::kFloat8_e4m3fn},
    {SafetensorsDtype::kF8E5M2, at::kFloat8_e5m2},
};

}  // namespace

at::ScalarType torch_dtype(SafetensorsDtype dtype, const std::string& where) {
  for (const auto& [file, torch] : kTypes) {
    if (file == dtype) return torch;
  }
  throw Error({.code = ExitCode::kInput,
               .where = where,
               .what = "element type is not supported",
               .got = std::string(to_string(dtype)),
               .expected = "F64, F32, F16, BF16, F8, I64, I32, I16, I8, U8 or BOOL"});
}

SafetensorsDtype safetensors_dtype_of(at::ScalarType dtype) {
  for (const auto& [file, torch] : kTypes) {
    if (torch == dtype) return file;
  }
  throw Error({.what = "a tensor of this type cannot be stored in safetensors",
               .got = at::toString(dtype)});
}

at::Tensor tensor_from(const SafetensorsView& view, const std::string& where) {
  at::Tensor tensor = at::empty(view.shape, torch_dtype(view.dtype, where));
  if (!view.data.empty())
    std::memcpy(tensor.mutable_data_ptr(), view.data.data(), view.data.size());
  return tensor;
}

std::map<std::string, at::Tensor> read_tensors(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, view] : file.tensors())
    tensors.emplace(name, tensor_from(view, file.where() + ": tensor " + name));
  return tensors;
}

void write_tensors(const std::filesystem::path& path,
                   const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                   const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back({name, safetensors_dtype_of(tensor.scalar_type()), tensor.sizes().vec()});
  }
  SafetensorsWriter writer(path, std::move(entries), metadata);
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor flat = tensor.detach().to(at::kCPU).contiguous();
    writer.write({static_cast<const std::byte*>(flat.const_data_ptr()),
                  static_cast<size_t>(flat.numel() * flat.element_size())});
  }
  writer.finish();
}

}  // namespace kvlingua
