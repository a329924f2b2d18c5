// layers: model
// A model that bitsandbytes saved in NF4 whose tensors were changed (codes, scales, tables, the
// JSON of its quantisation state, types, shapes; tensors that are gone): refused with kCorrupt or
// kInput, or a model that reads tokens.
#include <ATen/ATen.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "kvlingua/base/error.h"
#include "kvlingua/kernels/quantized.h"
#include "kvlingua/model/causal_lm.h"
#include "mutations.h"
#include "support/tiny_model.h"

namespace {

using namespace kvlingua;

struct Tensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

std::string bytes_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {static_cast<const char*>(flat.const_data_ptr()), flat.nbytes()};
}

void add_quantized(const std::string& name, const at::Tensor& values, std::vector<Tensor>& out) {
  const int64_t n = values.numel(), blocks = (n + kNf4Block - 1) / kNf4Block;
  const at::Tensor codes = at::empty({(n + 1) / 2}, at::kByte), absmax = at::empty({blocks});
  nf4_quantize(values.reshape({-1}), codes, absmax);
  const Nf4Scales scales = nf4_quantize_scales(absmax);
  const nlohmann::json state = {{"quant_type", "nf4"},
                                {"blocksize", kNf4Block},
                                {"dtype", "float32"},
                                {"shape", values.sizes().vec()},
                                {"nested_blocksize", kNestedBlock},
                                {"nested_dtype", "float32"},
                                {"nested_offset", scales.offset}};
  const std::string text = state.dump();
  const auto& book = nf4_codebook();
  out.push_back({name, "U8", {codes.numel(), 1}, bytes_of(codes)});
  out.push_back({name + ".absmax", "U8", {blocks}, bytes_of(scales.absmax)});
  out.push_back({name + ".nested_absmax",
                 "F32",
                 {scales.nested_absmax.numel()},
                 bytes_of(scales.nested_absmax)});
  out.push_back({name + ".nested_quant_map", "F32", {256}, bytes_of(scales.nested_map)});
  out.push_back({name + ".quant_map",
                 "F32",
                 {16},
                 {reinterpret_cast<const char*>(book.data()), sizeof book}});
  out.push_back(
      {name + ".quant_state.bitsandbytes__nf4", "U8", {static_cast<int64_t>(text.size())}, text});
}

std::vector<Tensor> valid_model(const std::filesystem::path& folder) {
  const CausalLM model = testing::tiny_model(Architecture::kQwen2);
  auto config = nlohmann::json::parse(model.config().to_json());
  config["quantization_config"] = {
      {"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"bnb_4bit_quant_type", "nf4"}};
  std::ofstream(folder / "config.json") << config.dump();
  std::vector<Tensor> out;
  for (const auto& [name, tensor] : model.parameters()) {
    if (name.ends_with("_proj.weight")) {
      add_quantized(name, tensor.detach(), out);
    } else {
      out.push_back({name, "F32", tensor.sizes().vec(), bytes_of(tensor.detach())});
    }
  }
  return out;
}

void write(const std::filesystem::path& path, const std::vector<Tensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string body;
  for (const Tensor& t : tensors) {
    header[t.name] = {{"dtype", t.dtype},
                      {"shape", t.shape},
                      {"data_offsets", {body.size(), body.size() + t.bytes.size()}}};
    body += t.bytes;
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(&length), sizeof length);
  out << text << body;
}

void change_state(Tensor& t, fuzz::Bytes& bytes) {
  auto document = nlohmann::json::parse(t.bytes, nullptr, false);
  if (document.is_discarded()) return;
  fuzz::mutate(document, bytes);
  t.bytes = document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  t.shape = {static_cast<int64_t>(t.bytes.size())};
}

void change(std::vector<Tensor>& tensors, fuzz::Bytes& bytes) {
  const size_t which = bytes.below(static_cast<uint32_t>(tensors.size()));
  Tensor& t = tensors[which];
  switch (bytes.byte() % 6) {
    case 0:
      tensors.erase(tensors.begin() + static_cast<std::ptrdiff_t>(which));
      return;
    case 1: {  // fewer or more rows, with their bytes
      const size_t row = t.bytes.size() / static_cast<size_t>(t.shape[0]);
      t.shape[0] = 1 + bytes.byte() % 64;
      t.bytes.resize(row * static_cast<size_t>(t.shape[0]), static_cast<char>(bytes.byte()));
      return;
    }
    case 2:  // another type of as many bytes
      t.dtype = t.dtype == "F32" ? "I32" : bytes.byte() % 2 == 0 ? "I8" : "F8_E4M3";
      return;
    case 3:
      if (t.dtype == "F32") {
        const float values[] = {0, -1, 1e38F, HUGE_VALF, NAN, 1e-40F};
        const float value = values[bytes.byte() % std::size(values)];
        const size_t at = bytes.below(static_cast<uint32_t>(t.bytes.size() / sizeof value));
        std::memcpy(t.bytes.data() + at * sizeof value, &value, sizeof value);
        return;
      }
      [[fallthrough]];
    case 4:
      t.bytes[bytes.below(static_cast<uint32_t>(t.bytes.size()))] = static_cast<char>(bytes.byte());
      return;
    default:
      for (size_t i = which; i < tensors.size(); ++i) {
        if (tensors[i].name.ends_with("__nf4")) return change_state(tensors[i], bytes);
      }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::filesystem::path folder = fuzz::scratch("quantized");
  static const std::vector<Tensor> valid = valid_model(folder);
  std::vector<Tensor> tensors = valid;
  fuzz::Bytes bytes(data, size);
  const bool streamed = bytes.byte() % 4 == 0;
  const int changes = bytes.byte() % 4;
  for (int i = 0; i < changes; ++i) change(tensors, bytes);
  write(folder / "model.safetensors", tensors);
  try {
    const CausalLM model = CausalLM::load(folder, {.layer_streaming = streamed});
    if (model.prefill(TokenBatch::from_rows({{1, 2, 3}})).cache.tokens() != 3) std::abort();
  } catch (const Error& error) {
    if (error.code() != ExitCode::kCorrupt && error.code() != ExitCode::kInput) std::abort();
    if (changes == 0) std::abort();
  }
  return 0;
}
