// ModelConfig: what kvlingua needs from a Hugging Face config.json or a GGUF file's metadata.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/cache/kv_shape.h"
#include "kvlingua/cache/rope_spec.h"
#include "kvlingua/model/weight_format.h"

namespace kvlingua {

enum class Architecture { kQwen2, kQwen3, kLlama };
std::string to_string(Architecture architecture);  // as in config.json: "Qwen2ForCausalLM"

struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;  // read, or hidden / heads only when the file has none
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;  // Qwen2 always; Llama and Qwen3: attention_bias
  bool o_bias = false;    // Llama and Qwen3: attention_bias
  bool mlp_bias = false;
  bool qk_norm = false;  // Qwen3
  RopeSpec rope;
  std::vector<int64_t> eos_ids;  // generation_config.json first, then config.json
  int64_t bos_id = -1;           // -1: none
  // How the files hold the layers' matrices: dense, or as bitsandbytes saved them.
  WeightFormat stored = WeightFormat::kDense;

  KvShape kv_shape() const { return {num_layers, num_kv_heads, head_dim}; }
  int64_t parameter_count() const;

  // Of a path that is_gguf_path() from the file's metadata. Throws Error naming file and key:
  // kCorrupt for malformed JSON, kInput for what is unsupported.
  static ModelConfig from_directory(const std::filesystem::path& directory);
  static ModelConfig from_json(std::string_view config_json,
                               std::string_view generation_config_json = {},
                               std::string where = "config.json");
  std::string to_json() const;  // a config.json that transformers reads
};

// Of a model's config.json, or of all that a GGUF file holds beside its weights' data.
std::string config_sha256(const std::filesystem::path& model);

}  // namespace kvlingua
