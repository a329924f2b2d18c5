#include "stored_weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "gguf_model.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/json_number.h"
#include "weights.h"

namespace kvlingua {
namespace {

[[noreturn]] void refuse(const std::string& where, std::string_view name, std::string what,
                         std::string got, std::string expected, std::string remedy) {
  throw Error({.code = ExitCode::kInput,
               .where = cat(where, ": tensor ", printable(name)),
               .what = std::move(what),
               .got = std::move(got),
               .expected = std::move(expected),
               .remedy = std::move(remedy)});
}

[[noreturn]] void refuse(const SafetensorsFile& file, std::string_view name, std::string what,
                         std::string got, std::string expected, std::string remedy) {
  refuse(file.where(), name, std::move(what), std::move(got), std::move(expected),
         std::move(remedy));
}

at::ScalarType float_type(GgufType type) {
  return type == GgufType::kF16 ? at::kHalf : type == GgufType::kBF16 ? at::kBFloat16 : at::kFloat;
}

at::ScalarType scalar_type(const SafetensorsFile& file, std::string_view name,
                           SafetensorsDtype dtype) {
  switch (dtype) {
    case SafetensorsDtype::kF64:
      return at::kDouble;
    case SafetensorsDtype::kF32:
      return at::kFloat;
    case SafetensorsDtype::kBF16:
      return at::kBFloat16;
    case SafetensorsDtype::kF16:
      return at::kHalf;
    default:
      refuse(file, name, "weights of an unsupported type", std::string(to_string(dtype)),
             "F32, BF16, F16 or F64", "use the model's unquantised weights");
  }
}

// Bytes as a tensor. The mapping need not be aligned to the element, a tensor must be.
at::Tensor over(std::span<const std::byte> data, at::ScalarType type) {
  const size_t size = at::elementSize(type);
  const auto n = static_cast<int64_t>(data.size() / size);
  if (reinterpret_cast<uintptr_t>(data.data()) % size == 0) {
    return at::from_blob(const_cast<std::byte*>(data.data()), {n}, at::TensorOptions().dtype(type));
  }
  at::Tensor copy = at::empty({n}, at::TensorOptions().dtype(type));
  std::memcpy(copy.mutable_data_ptr(), data.data(), data.size());
  return copy;
}

constexpr const char* kStateSuffix = ".quant_state.bitsandbytes__";

}  // namespace

StoredTensor::StoredTensor(const SafetensorsFile& file, std::string_view name,
                           const SafetensorsView& view)
    : file_(&file),
      name_(name),
      shape_(view.shape),
      data_(view.data),
      type_(scalar_type(file, name, view.dtype)),
      block_bytes_(static_cast<int64_t>(at::elementSize(type_))) {}

StoredTensor::StoredTensor(const GgufFile& file, std::string_view name, const GgufTensor& tensor,
                           std::optional<int64_t> head_dim)
    : gguf_(&file),
      name_(name),
      shape_(tensor.shape),
      data_(tensor.data),
      type_(float_type(tensor.type)),
      block_(block_elements(tensor.type)),
      block_bytes_(block_bytes(tensor.type)),
      blocks_(tensor.type),
      head_dim_(head_dim) {
  if (head_dim_) type_ = at::kFloat;
}

void StoredTensor::refuse(std::string what, std::string got, std::string expected,
                          std::string remedy) const {
  kvlingua::refuse(file_ != nullptr ? file_->where() : gguf_->where(), name_, std::move(what),
                   std::move(got), std::move(expected), std::move(remedy));
}

at::Tensor StoredTensor::elements(int64_t begin, int64_t n) const {
  const bool as_they_are = !head_dim_ && block_ == 1;
  return as_they_are ? over(bytes(begin, n), type_) : dequantized(begin, n);
}

std::span<const std::byte> StoredTensor::run(int64_t begin, int64_t n) const {
  if (!head_dim_) return bytes(begin, n);
  const int64_t columns = shape_.size() == 2 ? shape_[1] : 1;
  return bytes(interleaved_row(begin / columns, *head_dim_) * columns + begin % columns, n);
}

at::Tensor StoredTensor::dequantized(int64_t begin, int64_t n) const {
  at::Tensor out = at::empty({n}, at::kFloat);
  const int64_t columns = shape_.size() == 2 ? shape_[1] : 1;
  float* into = out.mutable_data_ptr<float>();
  for (int64_t at = begin, end = begin + n; at < end;) {
    const int64_t length = head_dim_ ? std::min(end, (at / columns + 1) * columns) - at : end - at;
    dequantize(blocks_, run(at, length), {into, static_cast<size_t>(length)});
    into += length;
    at += length;
  }
  return out;
}

std::span<const std::byte> StoredTensor::bytes(int64_t begin, int64_t n) const {
  return data_.subspan(static_cast<size_t>(begin / block_ * block_bytes_),
                       static_cast<size_t>(n / block_ * block_bytes_));
}

void StoredTensor::advise(FileAccess access, std::span<const std::byte> range) const {
  if (file_ != nullptr) {
    file_->advise(access, range);
  } else if (!head_dim_) {  // whose rows other pieces read
    gguf_->advise(access, range);
  }
}

void StoredWeights::read_gguf(const std::filesystem::path& path, const ModelConfig& config) {
  gguf_ = std::make_shared<const GgufFile>(GgufFile::open(path));
  const Weights shapes = Weights::allocate(config, {.device = at::kMeta});
  std::set<std::string, std::less<>> expected = {"rope_freqs.weight"};
  for (const auto& [name, tensor] : shapes.named) {
    names_.push_back(name);
    const std::string theirs = gguf_name(name);
    expected.insert(theirs);
    const GgufTensor* found = gguf_->find(theirs);
    if (found == nullptr || !std::ranges::equal(found->shape, tensor.sizes())) {
      refuse(gguf_->where(), theirs, found == nullptr ? "missing" : "wrong shape",
             found == nullptr ? "" : describe_shape(found->shape), describe_shape(tensor.sizes()),
             "download the file again");
    }
    if (const auto head = interleaved_head(config, name)) interleaved_[name] = *head;
  }
  for (const auto& [name, tensor] : gguf_->tensors()) {
    if (expected.contains(name)) continue;
    refuse(gguf_->where(), name, "unexpected", describe_shape(tensor.shape),
           cat("only the tensors of ", to_string(config.architecture), " with ", config.num_layers,
               " layers"),
           "use the model's Hugging Face files");
  }
}

StoredWeights::StoredWeights(const std::filesystem::path& directory, const ModelConfig& config)
    : directory_(directory) {
  if (is_gguf_path(directory)) {
    read_gguf(directory, config);
    return;
  }
  files_ = ShardedSafetensors::open(directory);
  const Weights shapes = Weights::allocate(config, {.device = at::kMeta});
  for (const auto& [name, tensor] : shapes.named) {
    names_.push_back(name);
    if (name.ends_with("_proj.weight")) matrices_.insert(name);
    if (!files_.contains(name)) {
      throw Error({.code = ExitCode::kInput,
                   .where = cat(files_.where(), ": tensor ", name),
                   .what = "missing",
                   .expected = describe_shape(tensor.sizes()),
                   .remedy = name == "lm_head.weight"
                                 ? "config.json says tie_word_embeddings is false, or "
                                   "does not say it, which means false: set it to true where "
                                   "the head is the embedding"
                                 : "download the model again"});
    }
    if (format(name) == WeightFormat::kNf4) continue;  // packed: codes() holds it to its shape
    const SafetensorsView& view = files_.at(name);
    if (!std::ranges::equal(view.shape, tensor.sizes())) {
      refuse(files_.file_of(name), name, "wrong shape", describe_shape(view.shape),
             describe_shape(tensor.sizes()), "config.json and the weights are not of one model");
    }
  }
  check_names(config);
}

void StoredWeights::check_names(const ModelConfig& config) const {
  std::set<std::string, std::less<>> expected(names_.begin(), names_.end());
  for (const std::string& name : matrices_) {
    if (format(name) == WeightFormat::kDense) continue;
    for (std::string& companion : companions(name)) expected.insert(std::move(companion));
  }
  const auto known = [&](const std::string& name) {
    return expected.contains(name) || name.ends_with("rotary_emb.inv_freq") ||
           name.ends_with(".weight_format") ||
           (config.tie_word_embeddings && name == "lm_head.weight");
  };
  for (const std::string& name : files_.names()) {
    if (!known(name)) {
      refuse(files_.file_of(name), name, "unexpected", describe_shape(files_.at(name).shape),
             cat("only the tensors of ", to_string(config.architecture), " with ",
                 config.num_layers, " layers"),
             "config.json and the weights are not of one model");
    }
  }
}

std::vector<std::string> StoredWeights::companions(const std::string& name) const {
  std::vector<std::string> found;
  const auto look = [&](const std::string& candidate) {
    if (files_.contains(candidate)) found.push_back(candidate);
  };
  for (const char* suffix : {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"})
    look(name + suffix);
  for (const char* type : {"nf4", "fp4"}) look(cat(name, kStateSuffix, type));
  look(cat(name.substr(0, name.size() - std::string_view("weight").size()), "SCB"));
  return found;
}

WeightFormat StoredWeights::format(const std::string& name) const {
  if (!matrices_.contains(name)) return WeightFormat::kDense;  // all of a GGUF file
  const SafetensorsDtype dtype = files_.at(name).dtype;
  return dtype == SafetensorsDtype::kU8   ? WeightFormat::kNf4
         : dtype == SafetensorsDtype::kI8 ? WeightFormat::kInt8
                                          : WeightFormat::kDense;
}

StoredTensor StoredWeights::floats(const std::string& name) const {
  if (gguf_) {
    const auto head = interleaved_.find(name);
    return {*gguf_, name, *gguf_->find(gguf_name(name)),
            head == interleaved_.end() ? std::nullopt : std::optional(head->second)};
  }
  return {files_.file_of(name), name, files_.at(name)};
}

namespace {

// The tensors that one quantised matrix is made of, each held to its type and size.
class SavedMatrix {
 public:
  SavedMatrix(const ShardedSafetensors& files, std::string name)
      : files_(files), name_(std::move(name)) {}

  [[noreturn]] void refuse(const std::string& tensor, std::string what, std::string got,
                           std::string expected) const {
    const std::string& there = files_.contains(tensor) ? tensor : name_;
    kvlingua::refuse(files_.file_of(there), tensor, std::move(what), std::move(got),
                     std::move(expected), "quantise the model again, or use its float weights");
  }

  const SafetensorsView& view(const std::string& tensor) const {
    if (const SafetensorsView* found = files_.find(tensor)) return *found;
    refuse(tensor, "missing", "codes without it", "what bitsandbytes saved beside the codes");
  }

  // A copy of `n` elements.
  at::Tensor values(const std::string& tensor, SafetensorsDtype dtype, int64_t n) const {
    const SafetensorsView& v = view(tensor);
    if (v.dtype != dtype)
      refuse(tensor, "wrong type", std::string(to_string(v.dtype)), std::string(to_string(dtype)));
    if (v.elements() != n) refuse(tensor, "wrong size", describe_shape(v.shape), cat(n, " values"));
    const at::ScalarType type = dtype == SafetensorsDtype::kF32  ? at::kFloat
                                : dtype == SafetensorsDtype::kI8 ? at::kChar
                                                                 : at::kByte;
    const at::Tensor copy = over(v.data, type).clone();
    if (type == at::kFloat && !copy.isfinite().all().item<bool>())
      refuse(tensor, "not a number", "inf or nan", "finite values");
    return copy;
  }

 private:
  const ShardedSafetensors& files_;
  std::string name_;
};

// quant_state.bitsandbytes__nf4: JSON in bytes.
struct QuantState {
  int64_t block = 0;
  bool nested = false;
  float offset = 0;
};

QuantState read_state(const SavedMatrix& saved, const std::string& tensor, int64_t rows,
                      int64_t columns) {
  const auto& bytes = saved.view(tensor).data;
  if (bytes.size() > 65536)
    saved.refuse(tensor, "too long", cat(bytes.size(), " bytes"), "at most 65536");
  const nlohmann::json state =
      parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, tensor);
  const auto wrong = [&](const char* key, const std::string& expected) {
    saved.refuse(
        tensor, cat("unusable ", key),
        state.is_object() && state.contains(key)
            ? printable(state[key].dump(-1, ' ', true, nlohmann::json::error_handler_t::replace),
                        60)
            : "nothing",
        expected);
  };
  const auto integer = [&](const char* key) {
    if (!state.is_object() || !state.contains(key) || !is_whole_number(state[key]))
      wrong(key, "an integer");
    return state[key].get<int64_t>();
  };
  QuantState out;
  if (!state.is_object() || !state.contains("quant_type") || state["quant_type"] != "nf4")
    wrong("quant_type", "nf4");
  out.block = integer("blocksize");
  if (out.block < 32 || out.block > 4096 || (out.block & (out.block - 1)) != 0)
    wrong("blocksize", "a power of two from 32 to 4096");
  if (!state.contains("shape") || state["shape"] != nlohmann::json::array({rows, columns}))
    wrong("shape", describe_shape(std::vector<int64_t>{rows, columns}));
  out.nested = state.contains("nested_blocksize");
  if (!out.nested) return out;
  if (integer("nested_blocksize") != kNestedBlock) wrong("nested_blocksize", cat(kNestedBlock));
  if (!state.contains("nested_offset") || !state["nested_offset"].is_number())
    wrong("nested_offset", "a number");
  out.offset = static_cast<float>(state["nested_offset"].get<double>());
  if (!std::isfinite(out.offset)) wrong("nested_offset", "a finite number");
  return out;
}

}  // namespace

QuantizedPart StoredWeights::codes(const std::string& name, int64_t rows, int64_t columns) const {
  const SavedMatrix saved(files_, name);
  QuantizedPart part{
      .format = format(name), .rows = rows, .columns = columns, .codes = {}, .scales = {}};
  const int64_t n = rows * columns;
  if (part.format == WeightFormat::kInt8) {
    part.codes = saved.values(name, SafetensorsDtype::kI8, n).view({rows, columns});
    part.scales.absmax =
        saved.values(cat(name.substr(0, name.size() - std::string_view("weight").size()), "SCB"),
                     SafetensorsDtype::kF32, rows);
    return part;
  }
  if (files_.contains(cat(name, kStateSuffix, "fp4")))
    saved.refuse(cat(name, kStateSuffix, "fp4"), "quantisation type not supported", "fp4", "nf4");
  const QuantState state = read_state(saved, cat(name, kStateSuffix, "nf4"), rows, columns);
  part.codes = saved.values(name, SafetensorsDtype::kU8, (n + 1) / 2);
  const at::Tensor map = saved.values(name + ".quant_map", SafetensorsDtype::kF32, 16);
  if (std::memcmp(map.const_data_ptr(), nf4_codebook().data(), sizeof(nf4_codebook())) != 0)
    saved.refuse(name + ".quant_map", "not NF4's codes", "others", "bitsandbytes' sixteen values");
  const int64_t blocks = (n + state.block - 1) / state.block;
  part.scales.block = state.block;
  part.scales.absmax = saved.values(
      name + ".absmax", state.nested ? SafetensorsDtype::kU8 : SafetensorsDtype::kF32, blocks);
  if (!state.nested) return part;
  part.scales.offset = state.offset;
  part.scales.nested_absmax = saved.values(name + ".nested_absmax", SafetensorsDtype::kF32,
                                           (blocks + kNestedBlock - 1) / kNestedBlock);
  part.scales.nested_map = saved.values(name + ".nested_quant_map", SafetensorsDtype::kF32, 256);
  return part;
}

namespace {

// The first and the last bytes of a tensor.
void hash_edges(Sha256& hash, std::span<const std::byte> data) {
  constexpr size_t kEdge = 4096;
  const size_t edge = std::min(kEdge, data.size());
  hash.update(data.data(), edge);
  hash.update(data.data() + data.size() - edge, edge);
}

}  // namespace

std::string StoredWeights::gguf_fingerprint() const {
  Sha256 hash;
  hash.update(gguf_header_digest(*gguf_));
  for (const auto& [name, tensor] : gguf_->tensors()) {
    hash_edges(hash, tensor.data);
    gguf_->advise(FileAccess::kDontNeed, tensor.data);
  }
  return "gguf-" + hash.hex();
}

std::string StoredWeights::fingerprint() const {
  if (gguf_) return gguf_fingerprint();
  Sha256 hash;
  hash.update(read_text_file(directory_ / "config.json"));
  const auto add = [&](const std::string& name) {
    const SafetensorsView& view = files_.at(name);
    hash.update(cat(name, ' ', to_string(view.dtype), ' ', describe_shape(view.shape), '\n'));
    hash_edges(hash, view.data);
    files_.done_with(name);
  };
  for (const std::string& name : names_) {
    add(name);
    if (format(name) == WeightFormat::kDense) continue;
    for (const std::string& companion : companions(name)) add(companion);
  }
  return hash.hex();
}

void StoredWeights::done_with(const std::string& name) const {
  if (gguf_) return gguf_->advise(FileAccess::kDontNeed, gguf_->find(gguf_name(name))->data);
  files_.done_with(name);
}

std::string format_prefix(WeightFormat format, bool nested) {
  if (format == WeightFormat::kDense) return "";
  return cat(to_string(format), nested && format == WeightFormat::kNf4 ? "-double-" : "-");
}

}  // namespace kvlingua
