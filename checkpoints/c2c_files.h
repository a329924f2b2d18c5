// What c2c_import.cpp and c2c_training_state.cpp share: refusals, dtypes, and tensors of a `.pt`
// file.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

#include "kvlingua/base/error.h"
#include "kvlingua/io/torch_archive.h"

namespace kvlingua::c2c {

[[noreturn]] void refuse(const std::filesystem::path& where, const std::string& what,
                         const std::string& got = {}, const std::string& expected = {},
                         ExitCode code = ExitCode::kInput);
const std::map<std::string, at::ScalarType>& dtypes();
std::string dtype_name(
    at::ScalarType dtype);  // throws Error for a dtype the format has no name for
at::Tensor to_tensor(const PtTensor& t, const std::filesystem::path& where,
                     const std::string& name);

}  // namespace kvlingua::c2c
