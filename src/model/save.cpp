// CausalLM::save: config.json and model.safetensors as transformers writes them.
#include <ATen/ATen.h>

#include "causal_lm_impl.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/safetensors_writer.h"

namespace kvlingua {
namespace {

SafetensorsDtype stored_type(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return SafetensorsDtype::kF64;
    case at::kFloat:
      return SafetensorsDtype::kF32;
    case at::kBFloat16:
      return SafetensorsDtype::kBF16;
    case at::kHalf:
      return SafetensorsDtype::kF16;
    default:
      throw Error({.where = "model weights",
                   .what = "cannot be stored as",
                   .got = at::toString(type),
                   .expected = "float32, bfloat16 or float16"});
  }
}

}  // namespace

void CausalLM::save(const std::filesystem::path& directory, at::ScalarType dtype) const {
  const auto named = parameters();  // refused where they are not there
  make_directories(directory);
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : named)
    entries.push_back({name, stored_type(dtype), tensor.sizes().vec()});
  SafetensorsWriter writer(directory / "model.safetensors", std::move(entries), {{"format", "pt"}});
  for (const auto& [name, tensor] : named) {
    const at::Tensor stored = tensor.detach().to(at::kCPU, dtype).contiguous();
    writer.write({static_cast<const std::byte*>(stored.const_data_ptr()),
                  static_cast<size_t>(stored.nbytes())});
  }
  writer.finish();
  write_file_atomic(directory / "config.json", impl_->config.to_json() + '\n');
}

}  // namespace kvlingua
