#include "trainers/nano_lm/lm_state.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstring>

#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/torch_archive.h"

namespace kvlingua {
namespace {

constexpr const char* kStateFile = "state.pt";

PtNamedTensor describe(const std::string& name, const at::Tensor& contiguous) {
  return {name,
          contiguous.scalar_type() == at::kLong ? "int64" : "float32",
          contiguous.sizes().vec(),
          {static_cast<const char*>(contiguous.data_ptr()), contiguous.nbytes()}};
}

// The recipe travels in the file as a tensor of its bytes' values: one file, replaced as one.
at::Tensor text_tensor(const std::string& text) {
  std::vector<int64_t> bytes(text.begin(), text.end());
  return at::tensor(bytes, at::kLong);
}

at::Tensor to_tensor(const PtTensor& stored, const std::string& where) {
  const at::ScalarType dtype = stored.dtype == "int64" ? at::kLong : at::kFloat;
  at::Tensor tensor = at::empty(stored.shape, dtype);
  const auto bytes = stored.contiguous_bytes();
  if (bytes.size() != tensor.nbytes()) {
    throw Error({.code = ExitCode::kCorrupt, .where = where, .what = "wrong size of a tensor"});
  }
  std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

NamedTensors read_all(const std::filesystem::path& file) {
  NamedTensors all;
  const PtPointer root = read_torch_archive(file);
  for (const auto& [key, value] : root->entries) {
    if (key->kind != PtValue::Kind::kText || value->kind != PtValue::Kind::kTensor) {
      throw Error(
          {.code = ExitCode::kCorrupt, .where = file.string(), .what = "not a training state"});
    }
    all.emplace_back(key->text, to_tensor(value->tensor, file.string() + ": " + key->text));
  }
  return all;
}

at::Tensor find(const NamedTensors& all, const std::string& name, const std::string& where) {
  for (const auto& [other, tensor] : all) {
    if (other == name) return tensor;
  }
  throw Error({.code = ExitCode::kCorrupt, .where = where, .what = "missing tensor", .got = name});
}

}  // namespace

void save_lm_state(const std::filesystem::path& work, const std::string& recipe, int64_t step,
                   const NamedTensors& parameters, const LmOptimizer& optimizer) {
  NamedTensors held = {{"step", at::tensor({step}, at::kLong)}, {"recipe", text_tensor(recipe)}};
  for (const auto& [name, tensor] : parameters)
    held.emplace_back(name, tensor.detach().to(at::kCPU).contiguous());
  for (const auto& [name, tensor] : optimizer.state())
    held.emplace_back(name, tensor.to(at::kCPU).contiguous());
  std::vector<PtNamedTensor> described;
  for (const auto& [name, tensor] : held) described.push_back(describe(name, tensor));
  make_directories(work);
  write_file_atomic(work / kStateFile, write_torch_archive(described));
}

std::optional<int64_t> load_lm_state(const std::filesystem::path& work, const std::string& recipe,
                                     NamedTensors& parameters, LmOptimizer& optimizer) {
  const auto file = work / kStateFile;
  if (!std::filesystem::exists(file)) return std::nullopt;
  const NamedTensors all = read_all(file);
  const at::Tensor wanted = text_tensor(recipe);
  if (!at::equal(find(all, "recipe", file.string()), wanted)) {
    throw Error({.code = ExitCode::kInput,
                 .where = file.string(),
                 .what = "made by another recipe",
                 .remedy = "use --restart, or the recipe it was begun with"});
  }
  c10::NoGradGuard no_grad;
  for (auto& [name, tensor] : parameters) {
    const at::Tensor stored = find(all, name, file.string());
    if (stored.sizes() != tensor.sizes()) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = file.string() + ": " + name,
                   .what = "wrong shape"});
    }
    tensor.copy_(stored);
  }
  optimizer.load(all);
  return find(all, "step", file.string()).item<int64_t>();
}

}  // namespace kvlingua
