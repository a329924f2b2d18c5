// Safetensors files as torch tensors: the bridge between io (which knows no torch) and everything
// that does.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kvlingua/io/safetensors.h"

namespace kvlingua {

// The torch type of a safetensors type. Throws Error (kInput) for the 4- and 6-bit ones, naming
// `where`.
at::ScalarType torch_dtype(SafetensorsDtype dtype, const std::string& where);
// Throws Error (kFailed) for types the format cannot hold.
SafetensorsDtype safetensors_dtype_of(at::ScalarType dtype);

// A copy of one tensor, on the CPU.
at::Tensor tensor_from(const SafetensorsView& view, const std::string& where);

// Every tensor of a file, copied to the CPU. Throws Error: kInput when it cannot be opened,
// kCorrupt when damaged.
std::map<std::string, at::Tensor> read_tensors(const std::filesystem::path& path);

// Writes them in this order, from any device, one at a time in memory; the file appears whole or
// not at all. Throws Error: kDiskFull, kInput for a folder that cannot be written.
void write_tensors(const std::filesystem::path& path,
                   const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                   const std::map<std::string, std::string>& metadata = {});

}  // namespace kvlingua
