#include "kvlingua/model/model_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "gguf_model.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/json_number.h"
#include "kvlingua/io/safetensors.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

using Json = nlohmann::json;

// The keys of one JSON object, read with type and range checks; null counts as absent, as in
// transformers.
class Keys {
 public:
  Keys(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  bool has(const char* key) const { return find(key) != nullptr; }

  [[noreturn]] void refuse(std::string_view key, std::string what, std::string got = {},
                           std::string expected = {}, std::string remedy = {}) const {
    throw Error({.code = ExitCode::kInput,
                 .where = cat(where_, ": ", key),
                 .what = std::move(what),
                 .got = std::move(got),
                 .expected = std::move(expected),
                 .remedy = std::move(remedy)});
  }

  int64_t integer(const char* key, int64_t low, int64_t high,
                  std::optional<int64_t> otherwise = std::nullopt) const {
    const Json* value = find(key);
    if (value == nullptr) {
      if (!otherwise) refuse(key, "missing");
      return *otherwise;
    }
    const std::string range = cat("an integer from ", low, " to ", high);
    if (!value->is_number_integer()) refuse(key, "wrong type", show(*value), range);
    if (!is_whole_number(*value, low, high)) refuse(key, "out of range", show(*value), range);
    return value->get<int64_t>();
  }

  // In (low, high].
  double real(const char* key, double low, double high,
              std::optional<double> otherwise = std::nullopt) const {
    const Json* value = find(key);
    if (value == nullptr) {
      if (!otherwise) refuse(key, "missing");
      return *otherwise;
    }
    const std::string range = cat("a number above ", low, " and at most ", high);
    if (!value->is_number()) refuse(key, "wrong type", show(*value), range);
    const auto number = value->get<double>();
    if (!(number > low && number <= high)) refuse(key, "out of range", show(*value), range);
    return number;
  }

  bool boolean(const char* key, bool otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) refuse(key, "wrong type", show(*value), "true or false");
    return value->get<bool>();
  }

  std::optional<std::string> text(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_string()) refuse(key, "wrong type", show(*value), "a string");
    return value->get<std::string>();
  }

  const Json* find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  // Written in the file at all, be it as null.
  bool mentions(const char* key) const { return object_.contains(key); }

  static std::string show(const Json& value) {
    if (value.is_object() || value.is_array()) return value.is_object() ? "an object" : "an array";
    return printable(value.dump(-1, ' ', true, Json::error_handler_t::replace), 60);
  }

  const std::string& where() const { return where_; }

 private:
  const Json& object_;
  std::string where_;
};

// Limits far above any model there is; products of them stay within 64 bits.
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxHidden = 1 << 18;
constexpr int64_t kMaxIntermediate = 1 << 20;
constexpr int64_t kMaxLayers = 1 << 12;
constexpr int64_t kMaxHeads = 1 << 12;
constexpr int64_t kMaxHeadDim = 1 << 12;
constexpr int64_t kMaxPositions = int64_t{1} << 32;
constexpr double kMaxTheta = 1e15;
constexpr double kMaxFactor = 1e6;

Architecture read_architecture(const Keys& keys) {
  const std::string known = "Qwen2ForCausalLM, Qwen3ForCausalLM or LlamaForCausalLM";
  const Json* list = keys.find("architectures");
  if (list == nullptr || !list->is_array() || list->empty() || !(*list)[0].is_string()) {
    const std::optional<std::string> type =
        keys.has("model_type") ? keys.text("model_type") : std::nullopt;
    keys.refuse("architectures", "does not name an architecture",
                type ? cat("model_type ", printable(*type)) : "", known);
  }
  const auto& name = (*list)[0].get_ref<const std::string&>();
  for (const Architecture architecture :
       {Architecture::kQwen2, Architecture::kQwen3, Architecture::kLlama}) {
    if (name == to_string(architecture)) return architecture;
  }
  keys.refuse("architectures", "architecture not supported", printable(name), known);
}

// What transformers divides the logarithm of the context's growth by; 1 when the context did not
// grow.
double yarn_scale(double factor, double mscale = 1.0) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void read_yarn(const Keys& scaling, int64_t max_position, RopeSpec& rope) {
  if (!scaling.mentions("factor")) scaling.refuse("factor", "missing");
  const double grown =
      static_cast<double>(max_position) / static_cast<double>(rope.original_max_position);
  rope.factor = scaling.real("factor", 0, kMaxFactor, grown);
  // A zero counts as absent, as Python's `or` has it.
  const auto or_default = [&](const char* key, double otherwise) {
    const Json* value = scaling.find(key);
    if (value != nullptr && value->is_number() && value->get<double>() == 0) return otherwise;
    return scaling.real(key, 0, kMaxFactor, otherwise);
  };
  rope.beta_fast = or_default("beta_fast", 32);
  rope.beta_slow = or_default("beta_slow", 1);
  rope.truncate = scaling.boolean("truncate", true);
  const double mscale = or_default("mscale", 0), mscale_all_dim = or_default("mscale_all_dim", 0);
  const double inferred =
      mscale > 0 && mscale_all_dim > 0
          ? yarn_scale(rope.factor, mscale) / yarn_scale(rope.factor, mscale_all_dim)
          : yarn_scale(rope.factor);
  rope.attention_factor = scaling.real("attention_factor", 0, kMaxFactor, inferred);
  if (!(rope.theta > 1))
    scaling.refuse("rope_theta", "too small for yarn", cat(rope.theta), "above 1");
}

// transformers takes rope_scaling before rope_parameters, and rope_theta from inside before the top
// level.
RopeSpec read_rope(const Keys& config, int64_t head_dim, int64_t max_position) {
  const char* name = "rope_parameters";
  if (const Json* old = config.find("rope_scaling"); old != nullptr && !old->empty())
    name = "rope_scaling";
  static const Json kNone = Json::object();
  const Json* object = config.find(name);
  if (object != nullptr && !object->is_object())
    config.refuse(name, "wrong type", Keys::show(*object), "an object");
  const Keys scaling(object == nullptr ? kNone : *object, cat(config.where(), ": ", name));
  for (const char* layer_type : {"full_attention", "sliding_attention", "chunked_attention"}) {
    if (scaling.has(layer_type))
      scaling.refuse(layer_type, "RoPE that differs between layers is not supported");
  }

  RopeSpec rope;
  rope.head_dim = head_dim;
  rope.theta = config.real("rope_theta", 0, kMaxTheta, 10000.0);
  rope.theta = scaling.real("rope_theta", 0, kMaxTheta, rope.theta);
  const double partial = config.real("partial_rotary_factor", 0, 1, 1.0);
  if (scaling.real("partial_rotary_factor", 0, 1, partial) != 1.0) {
    config.refuse("partial_rotary_factor", "partial rotation is not supported",
                  cat(scaling.real("partial_rotary_factor", 0, 1, partial)), "1");
  }
  const char* type_key = scaling.has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling.text(type_key).value_or("default");
  if (type == "default") return rope;

  const auto original_max_position = [&] {
    const int64_t inside =
        scaling.integer("original_max_position_embeddings", 1, kMaxPositions, max_position);
    return config.integer("original_max_position_embeddings", 1, kMaxPositions, inside);
  };
  if (type == "linear") {
    rope.type = RopeType::kLinear;
    rope.factor = scaling.real("factor", 0, kMaxFactor);
  } else if (type == "llama3") {
    rope.type = RopeType::kLlama3;
    rope.factor = scaling.real("factor", 0, kMaxFactor);
    rope.low_freq_factor = scaling.real("low_freq_factor", 0, kMaxFactor);
    rope.high_freq_factor = scaling.real("high_freq_factor", 0, kMaxFactor);
    rope.original_max_position = original_max_position();
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      scaling.refuse("high_freq_factor", "out of range", cat(rope.high_freq_factor),
                     cat("above low_freq_factor = ", rope.low_freq_factor));
    }
  } else if (type == "yarn") {
    rope.type = RopeType::kYarn;
    rope.original_max_position = original_max_position();
    read_yarn(scaling, max_position, rope);
  } else {
    scaling.refuse(type_key, "RoPE type not supported", printable(type),
                   "default, linear, llama3 or yarn");
  }
  return rope;
}

// A sliding window narrower than the context would change what a token sees; kvlingua attends to
// everything.
void check_sliding_window(const Keys& config, const ModelConfig& model) {
  const Json* types = config.find("layer_types");
  const bool used = config.boolean("use_sliding_window", false);
  std::optional<int64_t> window;
  if (used && !config.mentions("sliding_window"))
    window = 4096;  // the class default of Qwen2 and Qwen3
  if (used && config.has("sliding_window"))
    window = config.integer("sliding_window", 1, kMaxPositions);
  bool slides = window.has_value() &&
                config.integer("max_window_layers", 0, kMaxPositions, 28) < model.num_layers;
  if (types != nullptr) {
    if (!types->is_array() || types->size() != static_cast<size_t>(model.num_layers)) {
      config.refuse("layer_types", "wrong length",
                    types->is_array() ? cat(types->size()) : Keys::show(*types),
                    cat(model.num_layers, " names"));
    }
    slides = false;
    for (const Json& type : *types) {
      if (type == "full_attention" || type == "attention") continue;
      if (type != "sliding_attention")
        config.refuse("layer_types", "layer type not supported", Keys::show(type),
                      "full_attention");
      slides = true;
    }
    if (slides && !window)
      config.refuse("layer_types", "has sliding_attention, but no sliding window is in use");
  }
  if (slides && *window < model.max_position_embeddings) {
    config.refuse("sliding_window", "sliding-window attention is not supported", cat(*window),
                  cat("at least max_position_embeddings = ", model.max_position_embeddings));
  }
}

std::vector<int64_t> read_ids(const Keys& keys, const char* key) {
  std::vector<int64_t> ids;
  const Json* value = keys.find(key);
  if (value == nullptr) return ids;
  const Json list = value->is_array() ? *value : Json::array({*value});
  if (list.size() > 1024) keys.refuse(key, "too many ids", cat(list.size()), "at most 1024");
  for (const Json& id : list) {
    if (!is_whole_number(id, 0, INT32_MAX)) {
      keys.refuse(key, "not a token id", Keys::show(id), "an integer, or a list of integers");
    }
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

void read_shape(const Keys& config, ModelConfig& model) {
  const bool llama = model.architecture == Architecture::kLlama;
  model.vocab_size = config.integer("vocab_size", 1, kMaxVocab);
  model.hidden_size = config.integer("hidden_size", 1, kMaxHidden);
  model.intermediate_size = config.integer("intermediate_size", 1, kMaxIntermediate);
  model.num_layers = config.integer("num_hidden_layers", 1, kMaxLayers);
  model.num_heads = config.integer("num_attention_heads", 1, kMaxHeads);
  // null means as many as heads; a Qwen file without the key means the class default.
  const bool class_default = !llama && !config.mentions("num_key_value_heads");
  model.num_kv_heads =
      config.integer("num_key_value_heads", 1, kMaxHeads, class_default ? 32 : model.num_heads);
  if (model.num_heads % model.num_kv_heads != 0) {
    config.refuse("num_key_value_heads", "does not divide the heads", cat(model.num_kv_heads),
                  cat("a divisor of num_attention_heads = ", model.num_heads));
  }
  const bool derived = model.architecture != Architecture::kQwen3 && !config.has("head_dim");
  if ((derived || llama) && model.hidden_size % model.num_heads != 0) {
    config.refuse("hidden_size", "not a multiple of num_attention_heads", cat(model.hidden_size),
                  cat("a multiple of ", model.num_heads));
  }
  model.head_dim = config.integer("head_dim", 1, kMaxHeadDim,
                                  derived ? model.hidden_size / model.num_heads : 128);
  if (model.head_dim % 2 != 0 || model.head_dim > kMaxHeadDim) {
    config.refuse("head_dim", "cannot be rotated in halves", cat(model.head_dim),
                  cat("an even number up to ", kMaxHeadDim));
  }
  model.max_position_embeddings =
      config.integer("max_position_embeddings", 1, kMaxPositions, llama ? 2048 : 32768);
  model.rms_norm_eps = config.real("rms_norm_eps", 0, 1, 1e-6);
}

void read_biases(const Keys& config, ModelConfig& model) {
  const bool attention_bias = config.boolean("attention_bias", false);
  switch (model.architecture) {
    case Architecture::kQwen2:
      model.qkv_bias = true;
      break;  // whatever the file says
    case Architecture::kQwen3:
      model.qkv_bias = model.o_bias = attention_bias;
      model.qk_norm = true;
      break;
    case Architecture::kLlama:
      model.qkv_bias = model.o_bias = attention_bias;
      model.mlp_bias = config.boolean("mlp_bias", false);
      break;
  }
}

// bitsandbytes' codes are read; every other method is refused by its name.
WeightFormat read_quantization(const Keys& config) {
  const Json* found = config.find("quantization_config");
  if (found == nullptr) return WeightFormat::kDense;
  const char* key = "quantization_config";
  if (!found->is_object()) config.refuse(key, "wrong type", Keys::show(*found), "an object");
  const Keys quantization(*found, cat(config.where(), ": ", key));
  const bool eight = quantization.boolean("load_in_8bit", false),
             four = quantization.boolean("load_in_4bit", false);
  const std::string method =
      quantization.text("quant_method").value_or(eight || four ? "bitsandbytes" : "unnamed");
  if (method != "bitsandbytes") {
    config.refuse(key, "quantisation method not supported", printable(method),
                  "bitsandbytes nf4 or int8",
                  "use the model that this one was quantised from, with weights: nf4");
  }
  if (eight) return WeightFormat::kInt8;
  const std::string type = quantization.text("bnb_4bit_quant_type").value_or("fp4");
  if (!four || type != "nf4") {
    quantization.refuse("bnb_4bit_quant_type", "quantisation type not supported", printable(type),
                        "nf4", "use the model that this one was quantised from");
  }
  return WeightFormat::kNf4;
}

void check_supported(const Keys& config) {
  const std::string act = config.text("hidden_act").value_or("silu");
  if (act != "silu" && act != "swish")
    config.refuse("hidden_act", "activation not supported", printable(act), "silu");
}

// generation_config.json decides where it speaks; Llama's class has defaults where config.json does
// not mention the key.
void read_special_tokens(const Keys& config, const Keys& generation, ModelConfig& model) {
  const bool llama = model.architecture == Architecture::kLlama;
  model.eos_ids = read_ids(generation, "eos_token_id");
  if (model.eos_ids.empty()) model.eos_ids = read_ids(config, "eos_token_id");
  if (model.eos_ids.empty() && llama && !config.mentions("eos_token_id")) model.eos_ids = {2};
  std::vector<int64_t> bos = read_ids(generation, "bos_token_id");
  if (bos.empty()) bos = read_ids(config, "bos_token_id");
  if (bos.empty() && llama && !config.mentions("bos_token_id")) bos = {1};
  model.bos_id = bos.empty() ? -1 : bos[0];
}

ModelConfig parse(std::string_view config_json, const std::string& where,
                  std::string_view generation_json, const std::string& generation_where) {
  const auto object = [](std::string_view text, const std::string& name) {
    Json document = parse_json(text, name);
    if (!document.is_object()) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = name,
                   .what = "wrong type",
                   .got = Keys::show(document),
                   .expected = "an object"});
    }
    return document;
  };
  const Json document = object(config_json, where);
  const Json generation_document =
      generation_json.empty() ? Json::object() : object(generation_json, generation_where);
  const Keys config(document, where), generation(generation_document, generation_where);

  ModelConfig model;
  model.architecture = read_architecture(config);
  check_supported(config);
  model.stored = read_quantization(config);
  read_shape(config, model);
  read_biases(config, model);
  model.tie_word_embeddings = config.boolean("tie_word_embeddings", false);
  model.rope = read_rope(config, model.head_dim, model.max_position_embeddings);
  if (model.architecture != Architecture::kLlama)
    check_sliding_window(config, model);  // Llama's code ignores the keys
  read_special_tokens(config, generation, model);
  return model;
}

const char* model_type(Architecture architecture) {
  switch (architecture) {
    case Architecture::kQwen2:
      return "qwen2";
    case Architecture::kQwen3:
      return "qwen3";
    case Architecture::kLlama:
      return "llama";
  }
  return "?";
}

nlohmann::ordered_json rope_scaling(const RopeSpec& rope) {
  if (rope.type == RopeType::kDefault) return nullptr;
  nlohmann::ordered_json out{{"rope_type", to_string(rope.type)}, {"factor", rope.factor}};
  if (rope.type == RopeType::kLlama3) {
    out["low_freq_factor"] = rope.low_freq_factor;
    out["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.type != RopeType::kLinear)
    out["original_max_position_embeddings"] = rope.original_max_position;
  if (rope.type == RopeType::kYarn) {
    out["beta_fast"] = rope.beta_fast;
    out["beta_slow"] = rope.beta_slow;
    out["attention_factor"] = rope.attention_factor;
    out["truncate"] = rope.truncate;
  }
  return out;
}

}  // namespace

std::string to_string(Architecture architecture) {
  switch (architecture) {
    case Architecture::kQwen2:
      return "Qwen2ForCausalLM";
    case Architecture::kQwen3:
      return "Qwen3ForCausalLM";
    case Architecture::kLlama:
      return "LlamaForCausalLM";
  }
  return "?";
}

int64_t ModelConfig::parameter_count() const {
  const int64_t q = num_heads * head_dim, kv = num_kv_heads * head_dim;
  int64_t layer = hidden_size * q + 2 * hidden_size * kv + q * hidden_size +
                  3 * hidden_size * intermediate_size;
  layer += 2 * hidden_size;  // the two norms
  if (qkv_bias) layer += q + 2 * kv;
  if (o_bias) layer += hidden_size;
  if (mlp_bias) layer += 2 * intermediate_size + hidden_size;
  if (qk_norm) layer += 2 * head_dim;
  const int64_t embedding = vocab_size * hidden_size;
  return (tie_word_embeddings ? 1 : 2) * embedding + num_layers * layer + hidden_size;
}

ModelConfig ModelConfig::from_json(std::string_view config_json,
                                   std::string_view generation_config_json, std::string where) {
  return parse(config_json, where, generation_config_json, "generation_config.json");
}

namespace {

// Whether the weights hold an lm_head that is not the embedding once more.
bool has_own_head(const std::filesystem::path& directory) {
  try {
    const ShardedSafetensors files = ShardedSafetensors::open(directory);
    const SafetensorsView* head = files.find("lm_head.weight");
    const SafetensorsView* embedding = files.find("model.embed_tokens.weight");
    if (head == nullptr || embedding == nullptr || head->shape != embedding->shape) return false;
    const bool equal = head->dtype == embedding->dtype &&
                       std::equal(head->data.begin(), head->data.end(), embedding->data.begin(),
                                  embedding->data.end());
    return !equal;
  } catch (const Error&) {
    return false;  // whoever loads the weights says what is wrong with them
  }
}

}  // namespace

ModelConfig ModelConfig::from_directory(const std::filesystem::path& directory) {
  if (is_gguf_path(directory)) return config_of_gguf(GgufFile::open(directory));
  constexpr size_t kMaxBytes = size_t{16} << 20;
  const std::filesystem::path config = directory / "config.json",
                              generation = directory / "generation_config.json";
  std::error_code ignored;
  const std::string generation_json = std::filesystem::exists(generation, ignored)
                                          ? read_text_file(generation, kMaxBytes)
                                          : std::string();
  ModelConfig model = parse(read_text_file(config, kMaxBytes), config.string(), generation_json,
                            generation.string());
  // transformers keeps the head of a file that has one of its own, whatever the config says.
  if (model.tie_word_embeddings && has_own_head(directory)) model.tie_word_embeddings = false;
  return model;
}

std::string config_sha256(const std::filesystem::path& model) {
  return is_gguf_path(model) ? gguf_header_digest(GgufFile::open(model))
                             : sha256_file(model / "config.json");
}

// The keys of transformers 4 (rope_theta, rope_scaling), which 5 reads as well.
std::string ModelConfig::to_json() const {
  nlohmann::ordered_json out;
  out["architectures"] = {to_string(architecture)};
  out["model_type"] = model_type(architecture);
  out["vocab_size"] = vocab_size;
  out["hidden_size"] = hidden_size;
  out["intermediate_size"] = intermediate_size;
  out["num_hidden_layers"] = num_layers;
  out["num_attention_heads"] = num_heads;
  out["num_key_value_heads"] = num_kv_heads;
  out["head_dim"] = head_dim;
  out["hidden_act"] = "silu";
  out["max_position_embeddings"] = max_position_embeddings;
  out["rms_norm_eps"] = rms_norm_eps;
  out["tie_word_embeddings"] = tie_word_embeddings;
  if (architecture != Architecture::kQwen2) out["attention_bias"] = qkv_bias;
  if (architecture == Architecture::kLlama) out["mlp_bias"] = mlp_bias;
  out["rope_theta"] = rope.theta;
  out["rope_scaling"] = rope_scaling(rope);
  if (eos_ids.empty()) {
    out["eos_token_id"] = nullptr;
  } else if (eos_ids.size() == 1) {
    out["eos_token_id"] = eos_ids[0];
  } else {
    out["eos_token_id"] = eos_ids;
  }
  out["bos_token_id"] =
      bos_id < 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(bos_id);
  return out.dump(2) + "\n";
}

}  // namespace kvlingua
