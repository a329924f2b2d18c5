// Tiny random decoders for tests: every architecture and option at sizes that run in milliseconds.
#pragma once

#include "kvlingua/model/causal_lm.h"

namespace kvlingua::testing {

inline ModelConfig tiny_config(Architecture architecture, bool tied = true) {
  ModelConfig c;
  c.architecture = architecture;
  c.vocab_size = 97;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_layers = 3;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = architecture == Architecture::kQwen3 ? 16 : 8;
  c.max_position_embeddings = 512;
  c.tie_word_embeddings = tied;
  c.qkv_bias = architecture == Architecture::kQwen2;
  c.qk_norm = architecture == Architecture::kQwen3;
  c.rope.head_dim = c.head_dim;
  return c;
}

// Weights large enough that attention is far from uniform and every term of the model shows in the
// result.
inline CausalLM tiny_model(Architecture architecture, uint64_t seed = 1, bool tied = true) {
  CausalLM model = CausalLM::random(tiny_config(architecture, tied), {}, seed);
  for (const auto& [name, tensor] : model.parameters()) {
    if (tensor.dim() == 2) {
      tensor.mul_(name.find("embed") != std::string::npos ? 8.0 : 12.0);
    } else {
      tensor.add_(tensor.cumsum(0).sin(), 0.3);
    }
  }
  return model;
}

}  // namespace kvlingua::testing
