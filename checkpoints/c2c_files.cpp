#include "checkpoints/c2c_files.h"

#include <ATen/ATen.h>

#include <cstring>

#include "kvlingua/io/json.h"

namespace kvlingua::c2c {

void refuse(const std::filesystem::path& where, const std::string& what, const std::string& got,
            const std::string& expected, ExitCode code) {
  throw Error(
      {.code = code, .where = where.string(), .what = what, .got = got, .expected = expected});
}

const std::map<std::string, at::ScalarType>& dtypes() {
  static const std::map<std::string, at::ScalarType> table{{"float32", at::kFloat},
                                                           {"bfloat16", at::kBFloat16},
                                                           {"float16", at::kHalf},
                                                           {"float64", at::kDouble}};
  return table;
}

std::string dtype_name(at::ScalarType dtype) {
  for (const auto& [name, type] : dtypes()) {
    if (type == dtype) return name;
  }
  throw Error({.where = "Cache-to-Cache checkpoint",
               .what = "dtype cannot be written",
               .got = at::toString(dtype)});
}

at::Tensor to_tensor(const PtTensor& t, const std::filesystem::path& where,
                     const std::string& name) {
  const auto type = dtypes().find(t.dtype);
  if (type == dtypes().end()) {
    refuse(where, "tensor " + printable(name) + " has an unusable dtype", t.dtype,
           "a floating-point type");
  }
  const std::vector<std::byte> bytes = t.contiguous_bytes();
  at::Tensor out = at::empty(t.shape, at::TensorOptions().dtype(type->second));
  if (!bytes.empty()) std::memcpy(out.mutable_data_ptr(), bytes.data(), bytes.size());
  return out;
}

nlohmann::json read_json(const std::filesystem::path& path) {
  nlohmann::json parsed = parse_json(read_text_file(path), path.string());
  if (!parsed.is_object()) refuse(path, "not a JSON object", {}, {}, ExitCode::kCorrupt);
  return parsed;
}

}  // namespace kvlingua::c2c
