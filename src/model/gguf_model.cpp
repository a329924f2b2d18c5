#include "gguf_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <set>
#include <utility>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const GgufFile& file, const std::string& key, std::string what,
                         std::string got = {}, std::string expected = {}) {
  throw Error({.code = ExitCode::kInput,
               .where = cat(file.where(), ": ", key),
               .what = std::move(what),
               .got = std::move(got),
               .expected = std::move(expected)});
}

// Metadata of one architecture, "qwen2.block_count" and so on.
class ArchitectureKeys {
 public:
  ArchitectureKeys(const GgufFile& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  std::string key(const char* name) const { return cat(architecture_, '.', name); }

  // Some of them may be a list, one for each layer: kvlingua's layers are all alike.
  std::optional<int64_t> integer(const char* name) const {
    const std::string full = key(name);
    if (!file_.has(full)) return std::nullopt;
    if (!file_.is_integers(full)) return file_.integer(full);
    const GgufFile::Integers& list = *file_.integers(full);
    if (list.empty() || std::ranges::adjacent_find(list, std::ranges::not_equal_to{}) != list.end())
      refuse(file_, full, "layers that differ are not supported");
    return list[0];
  }
  int64_t need(const char* name) const {
    const auto value = integer(name);
    if (!value) refuse(file_, key(name), "missing");
    return *value;
  }
  std::optional<double> real(const char* name) const { return file_.real(key(name)); }

  // What changes the arithmetic and is not implemented.
  void only_one(const char* name) const {
    const auto value = real(name);
    if (value && *value != 1.0 && *value != 0.0)
      refuse(file_, key(name), "not supported", cat(*value), "1");
  }
  void none(const char* name) const {
    const auto value = integer(name);
    if (value && *value != 0) refuse(file_, key(name), "not supported", cat(*value), "0");
  }

 private:
  const GgufFile& file_;
  std::string architecture_;
};

// What llama.cpp's converter writes for Llama 3's rope: a divisor for each frequency.
std::vector<double> llama3_divisors(double theta, int64_t head_dim, double factor) {
  constexpr double kLow = 1, kHigh = 4, kContext = 8192;
  std::vector<double> out;
  for (int64_t i = 0; i < head_dim; i += 2) {
    const double wave = 2 * std::numbers::pi *
                        std::pow(theta, static_cast<double>(i) / static_cast<double>(head_dim));
    if (wave < kContext / kHigh) {
      out.push_back(1);
    } else if (wave > kContext / kLow) {
      out.push_back(factor);
    } else {
      const double smooth = (kContext / wave - kLow) / (kHigh - kLow);
      out.push_back(1 / ((1 - smooth) / factor + smooth));
    }
  }
  return out;
}

// The file holds the divisors alone; Llama 3.1 to 3.3 all have 1, 4 and 8192, and so only the
// factor is open, which the longest waves have. Others are refused.
Json llama3_scaling(const GgufFile& file, const GgufTensor& tensor, double theta,
                    int64_t head_dim) {
  const char* name = "tensor rope_freqs.weight";
  const auto n = static_cast<size_t>(head_dim / 2);
  if (tensor.type != GgufType::kF32 || tensor.shape.size() != 1 ||
      tensor.elements() != head_dim / 2)
    refuse(file, name, "wrong shape or type", describe_shape(tensor.shape), cat("F32 [", n, "]"));
  std::vector<float> held(n);
  dequantize(tensor.type, tensor.data, held);
  const double factor = *std::max_element(held.begin(), held.end());
  const std::vector<double> expected = llama3_divisors(theta, head_dim, factor);
  for (size_t i = 0; i < n; ++i) {
    if (!(std::abs(held[i] - expected[i]) <= 1e-5 * expected[i])) {
      refuse(file, name, "RoPE scaling not supported", cat(held[i], " at ", i),
             cat(expected[i], ", as Llama 3.1's of factor ", factor));
    }
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 8192}};
}

Json rope_scaling(const GgufFile& file, const ArchitectureKeys& keys, double theta,
                  int64_t head_dim) {
  if (const GgufTensor* divisors = file.find("rope_freqs.weight"))
    return llama3_scaling(file, *divisors, theta, head_dim);
  const std::string type(file.text(keys.key("rope.scaling.type")).value_or("none"));
  if (type == "none") return nullptr;
  const auto factor = keys.real("rope.scaling.factor");
  if ((type != "linear" && type != "yarn") || !factor) {
    refuse(file, keys.key("rope.scaling.type"), "RoPE scaling not supported", printable(type),
           "none, or linear or yarn with a factor");
  }
  Json out = {{"rope_type", type}, {"factor", *factor}};
  if (type == "linear") return out;
  keys.only_one("rope.scaling.attn_factor");
  if (const auto context = keys.integer("rope.scaling.original_context_length"))
    out["original_max_position_embeddings"] = *context;
  return out;
}

// Token ids that end a turn: those the file names, and what llama.cpp stops at by its text.
Json end_tokens(const GgufFile& file) {
  std::set<int64_t> ids;
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    if (const auto id = file.integer(key); id && *id >= 0) ids.insert(*id);
  }
  constexpr int64_t kControl = 3;
  const GgufFile::Strings* tokens = file.strings("tokenizer.ggml.tokens");
  const GgufFile::Integers* types = file.integers("tokenizer.ggml.token_type");
  for (size_t i = 0; tokens != nullptr && types != nullptr && i < types->size(); ++i) {
    if ((*types)[i] != kControl || i >= tokens->size()) continue;
    for (const char* text : {"<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>"}) {
      if ((*tokens)[i] == text) ids.insert(static_cast<int64_t>(i));
    }
  }
  return ids;
}

Json generation_json(const GgufFile& file) {
  Json out = Json::object();
  if (Json ids = end_tokens(file); !ids.empty()) out["eos_token_id"] = std::move(ids);
  const auto bos = file.integer("tokenizer.ggml.bos_token_id");
  if (bos && *bos >= 0) out["bos_token_id"] = *bos;
  return out;
}

void refuse_unsupported(const GgufFile& file, const ArchitectureKeys& keys) {
  keys.none("expert_count");
  for (const char* name :
       {"attention.scale", "logit_scale", "residual_scale", "embedding_scale",
        "attn_logit_softcapping", "final_logit_softcapping", "rope.scale_linear"})
    keys.only_one(name);
  if (const auto causal = file.boolean(keys.key("attention.causal")); causal && !*causal)
    refuse(file, keys.key("attention.causal"), "not supported", "false", "true");
  const auto window = keys.integer("attention.sliding_window");
  if (window && *window > 0 && *window < keys.need("context_length"))
    refuse(file, keys.key("attention.sliding_window"), "sliding-window attention is not supported",
           cat(*window));
}

const char* hugging_face_name(const GgufFile& file, std::string_view architecture) {
  if (architecture == "qwen2") return "Qwen2ForCausalLM";
  if (architecture == "qwen3") return "Qwen3ForCausalLM";
  if (architecture == "llama") return "LlamaForCausalLM";
  refuse(file, "general.architecture", "architecture not supported", printable(architecture),
         "qwen2, qwen3 or llama");
}

int64_t head_size(const GgufFile& file, const ArchitectureKeys& keys, int64_t hidden,
                  int64_t heads) {
  if (heads < 1) refuse(file, keys.key("attention.head_count"), "out of range", cat(heads));
  const int64_t size = keys.integer("attention.key_length").value_or(hidden / heads);
  for (const char* name : {"attention.value_length", "rope.dimension_count"}) {
    const int64_t other = keys.integer(name).value_or(size);
    if (other != size)
      refuse(file, keys.key(name), "other than the size of a head", cat(other), cat(size));
  }
  return size;
}

}  // namespace

ModelConfig config_of_gguf(const GgufFile& file) {
  const std::string architecture(file.text("general.architecture").value_or(""));
  Json config;
  config["architectures"] = {hugging_face_name(file, architecture)};
  const ArchitectureKeys keys(file, architecture);
  refuse_unsupported(file, keys);
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    refuse(file, "tensor token_embd.weight", embedding == nullptr ? "missing" : "wrong shape");
  if (const auto* tokens = file.strings("tokenizer.ggml.tokens");
      tokens != nullptr && static_cast<int64_t>(tokens->size()) > embedding->shape[0]) {
    refuse(file, "tokenizer.ggml.tokens", "more tokens than the embedding has rows",
           cat(tokens->size()), cat("at most ", embedding->shape[0]));
  }
  const int64_t hidden = keys.need("embedding_length"), heads = keys.need("attention.head_count");
  const int64_t head_dim = head_size(file, keys, hidden, heads);
  const double theta = keys.real("rope.freq_base").value_or(10000.0);
  config["vocab_size"] = embedding->shape[0];
  config["hidden_size"] = hidden;
  config["intermediate_size"] = keys.need("feed_forward_length");
  config["num_hidden_layers"] = keys.need("block_count");
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = keys.integer("attention.head_count_kv").value_or(heads);
  config["head_dim"] = head_dim;
  config["max_position_embeddings"] = keys.need("context_length");
  const auto epsilon = keys.real("attention.layer_norm_rms_epsilon");
  if (!epsilon) refuse(file, keys.key("attention.layer_norm_rms_epsilon"), "missing");
  config["rms_norm_eps"] = *epsilon;
  config["tie_word_embeddings"] = file.find("output.weight") == nullptr;
  config["attention_bias"] = file.find("blk.0.attn_q.bias") != nullptr;
  config["mlp_bias"] = file.find("blk.0.ffn_gate.bias") != nullptr;
  config["rope_theta"] = theta;
  config["rope_scaling"] = rope_scaling(file, keys, theta, head_dim);
  config["eos_token_id"] = nullptr;
  config["bos_token_id"] = nullptr;
  return ModelConfig::from_json(config.dump(), generation_json(file).dump(), file.where());
}

std::string gguf_name(std::string_view name) {
  if (name == "model.embed_tokens.weight") return "token_embd.weight";
  if (name == "model.norm.weight") return "output_norm.weight";
  if (name == "lm_head.weight") return "output.weight";
  static constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers)) return {};
  name.remove_prefix(kLayers.size());
  const size_t dot = name.find('.'), last = name.rfind('.');
  if (dot == std::string_view::npos || last <= dot) return {};
  static constexpr std::pair<std::string_view, std::string_view> kModules[] = {
      {"input_layernorm", "attn_norm"},    {"post_attention_layernorm", "ffn_norm"},
      {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},      {"self_attn.o_proj", "attn_output"},
      {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
      {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}};
  const std::string_view module = name.substr(dot + 1, last - dot - 1);
  for (const auto& [ours, theirs] : kModules) {
    if (module == ours) return cat("blk.", name.substr(0, dot), '.', theirs, name.substr(last));
  }
  return {};
}

std::optional<int64_t> interleaved_head(const ModelConfig& config, std::string_view name) {
  if (config.architecture != Architecture::kLlama) return std::nullopt;
  for (const char* module : {".q_proj.weight", ".k_proj.weight", ".q_proj.bias", ".k_proj.bias"}) {
    if (name.ends_with(module)) return config.head_dim;
  }
  return std::nullopt;
}

int64_t interleaved_row(int64_t row, int64_t head_dim) {
  const int64_t in_head = row % head_dim, half = head_dim / 2;
  return row - in_head + 2 * (in_head % half) + in_head / half;
}

std::string gguf_header_digest(const GgufFile& file) {
  Sha256 hash;
  hash.update(file.header().data(), file.header().size());
  return hash.hex();
}

}  // namespace kvlingua
