#include "kvlingua/model/published_config.h"

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

struct Published {
  const char* name;
  Architecture architecture;
  int64_t hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, positions;
  bool tied;
};

constexpr Published kPublished[] = {
    {"Qwen/Qwen3-0.6B", Architecture::kQwen3, 1024, 28, 16, 8, 128, 3072, 151936, 40960, true},
    {"Qwen/Qwen3-4B", Architecture::kQwen3, 2560, 36, 32, 8, 128, 9728, 151936, 40960, true},
    {"Qwen/Qwen3-32B", Architecture::kQwen3, 5120, 64, 64, 8, 128, 25600, 151936, 40960, false},
    {"Qwen/Qwen2.5-0.5B-Instruct", Architecture::kQwen2, 896, 24, 14, 2, 64, 4864, 151936, 32768,
     true},
    {"Qwen/Qwen2.5-3B-Instruct", Architecture::kQwen2, 2048, 36, 16, 2, 128, 11008, 151936, 32768,
     true},
    {"Qwen/Qwen2.5-7B-Instruct", Architecture::kQwen2, 3584, 28, 28, 4, 128, 18944, 152064, 32768,
     false},
    {"Qwen/Qwen2.5-Coder-0.5B-Instruct", Architecture::kQwen2, 896, 24, 14, 2, 64, 4864, 151936,
     32768, true},
    {"Qwen/Qwen2.5-Coder-1.5B-Instruct", Architecture::kQwen2, 1536, 28, 12, 2, 128, 8960, 151936,
     32768, true},
    {"HuggingFaceTB/SmolLM2-135M-Instruct", Architecture::kLlama, 576, 30, 9, 3, 64, 1536, 49152,
     8192, true},
};

}  // namespace

ModelConfig published_config(const std::string& name) {
  for (const Published& p : kPublished) {
    if (name != p.name) continue;
    ModelConfig c;
    c.architecture = p.architecture;
    c.vocab_size = p.vocab, c.hidden_size = p.hidden, c.intermediate_size = p.intermediate;
    c.num_layers = p.layers, c.num_heads = p.heads, c.num_kv_heads = p.kv_heads,
    c.head_dim = p.head_dim;
    c.max_position_embeddings = p.positions;
    c.tie_word_embeddings = p.tied;
    c.qkv_bias = p.architecture == Architecture::kQwen2;
    c.qk_norm = p.architecture == Architecture::kQwen3;
    return c;
  }
  throw Error({.code = ExitCode::kInput,
               .where = cat("model ", printable(name)),
               .what = "its shapes are not known before it is downloaded"});
}

}  // namespace kvlingua
