// What the readers and writers of Cache-to-Cache's files share: refusals, dtypes, tensors of a
// `.pt` file, and a projector's declaration.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "kvlingua/base/error.h"
#include "kvlingua/io/torch_archive.h"
#include "kvlingua/projector/c2c_fuser.h"

namespace kvlingua::c2c {

[[noreturn]] void refuse(const std::filesystem::path& where, const std::string& what,
                         const std::string& got = {}, const std::string& expected = {},
                         ExitCode code = ExitCode::kInput);
const std::map<std::string, at::ScalarType>& dtypes();
std::string dtype_name(
    at::ScalarType dtype);  // throws Error for a dtype the format has no name for
at::Tensor to_tensor(const PtTensor& t, const std::filesystem::path& where,
                     const std::string& name);

nlohmann::json read_json(const std::filesystem::path& path);  // an object, or refused

// projector_<n>.json: class and arguments. `config` lacks what the file does not say: the numbers
// of layers and which source layers are read.
struct Declaration {
  C2CConfig config;
  at::ScalarType dtype = at::kFloat;
  nlohmann::json init_args;
};
// Throws Error (kInput, kCorrupt): another class, an argument that it has not or cannot have.
Declaration read_declaration(const std::filesystem::path& path);
nlohmann::json declaration_of(const C2CFuser& fuser);

}  // namespace kvlingua::c2c
