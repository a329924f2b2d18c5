// StoredWeights: the tensors of a model's files under Hugging Face's names, with names and shapes
// held to the config. Floats come out as floats, and so do the blocks of a GGUF file; what
// bitsandbytes saved in four or eight bits (weight, .absmax, .quant_map, .nested_*,
// .quant_state.bitsandbytes__nf4; or weight and .SCB) as the codes that it is.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "kvlingua/io/gguf.h"
#include "kvlingua/io/safetensors.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/model/model_config.h"
#include "matrix.h"

namespace kvlingua {

// A tensor of floats in a file, or of blocks that stand for floats.
class StoredTensor {
 public:
  StoredTensor(const SafetensorsFile& file, std::string_view name, const SafetensorsView& view);
  // head_dim: rows are interleaved within heads of that size (gguf_model.h).
  StoredTensor(const GgufFile& file, std::string_view name, const GgufTensor& tensor,
               std::optional<int64_t> head_dim);

  [[noreturn]] void refuse(std::string what, std::string got, std::string expected,
                           std::string remedy) const;
  const std::vector<int64_t>& shape() const { return shape_; }
  at::ScalarType type() const { return type_; }  // of elements()
  // Elements [begin, begin + n), maybe over the mapping itself: not to be written. Of blocks: whole
  // ones; 256 are always whole.
  at::Tensor elements(int64_t begin, int64_t n) const;
  std::span<const std::byte> bytes(int64_t begin, int64_t n) const;
  void advise(FileAccess access, std::span<const std::byte> range) const;

 private:
  // Of GGUF's interleaved rows: the run of elements from `begin` in one of them.
  std::span<const std::byte> run(int64_t begin, int64_t n) const;
  at::Tensor dequantized(int64_t begin, int64_t n) const;

  const SafetensorsFile* file_ = nullptr;  // one of the two
  const GgufFile* gguf_ = nullptr;
  std::string name_;
  std::vector<int64_t> shape_;
  std::span<const std::byte> data_;
  at::ScalarType type_;
  int64_t block_ = 1, block_bytes_ = 0;
  GgufType blocks_ = GgufType::kF32;
  std::optional<int64_t> head_dim_;
};

class StoredWeights {
 public:
  // Throws Error: kInput, kCorrupt.
  StoredWeights(const std::filesystem::path& directory, const ModelConfig& config);

  StoredTensor floats(const std::string& name) const;  // refuses codes
  // How the file holds a matrix.
  WeightFormat format(const std::string& name) const;
  // Codes and scales of a matrix that format() does not call dense, on the CPU. Throws Error
  // (kInput) naming file, tensor and what is wrong with it.
  QuantizedPart codes(const std::string& name, int64_t rows, int64_t columns) const;

  // config.json, and of every tensor its name, type, shape and first and last bytes: two
  // fine-tunings of one model differ. Of a GGUF file "gguf-" and the same over its metadata.
  std::string fingerprint() const;
  // It was copied: its pages may go.
  void done_with(const std::string& name) const;

 private:
  std::vector<std::string> companions(const std::string& name) const;  // that are there
  void check_names(const ModelConfig& config) const;
  void check_shape(const std::string& name, const std::vector<int64_t>& shape, bool matrix) const;

  void read_gguf(const std::filesystem::path& path, const ModelConfig& config);
  std::string gguf_fingerprint() const;

  std::filesystem::path directory_;
  ShardedSafetensors files_;                                 // none of a GGUF file
  std::shared_ptr<const GgufFile> gguf_;                     // none of a directory
  std::map<std::string, int64_t, std::less<>> interleaved_;  // head sizes of such tensors
  std::vector<std::string> names_;  // of the config's tensors, in the order of the layers
  std::set<std::string, std::less<>> matrices_;  // of them those that may be codes
};

// What a loaded model's fingerprint says beside the files' hash: "" or "nf4-".
std::string format_prefix(WeightFormat format, bool nested);

}  // namespace kvlingua
