// The tokenizer inside a GGUF file, as the tokenizer.json and tokenizer_config.json that the model
// was published with: "gpt2" with one of the known pre-tokenizers (tokenizer.ggml.pre), or "llama"
// (SentencePiece's pieces and scores, whose merges follow from them). Other kinds are refused by
// name.
#pragma once

#include <nlohmann/json.hpp>

#include "kvlingua/io/gguf.h"

namespace kvlingua::text {

struct GgufTokenizer {
  nlohmann::json tokenizer;  // as tokenizer.json
  nlohmann::json config;     // special tokens by role, and the chat template
};

// Throws Error: kInput for what is not supported, kCorrupt for arrays that contradict each other.
GgufTokenizer read_gguf_tokenizer(const GgufFile& file);

}  // namespace kvlingua::text
