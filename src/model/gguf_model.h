// A GGUF file as a model: its metadata as the config.json that the model was published with, its
// tensors under Hugging Face's names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kvlingua/io/gguf.h"
#include "kvlingua/model/model_config.h"

namespace kvlingua {

// Throws Error: kInput naming key and value for what is not supported, kCorrupt.
ModelConfig config_of_gguf(const GgufFile& file);

// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight"; empty for another name.
std::string gguf_name(std::string_view name);

// llama.cpp stores the rows of Llama's Q and K for rotation in pairs: of each head the two halves
// interleaved. The head size of such a tensor (or its bias); nothing for others.
std::optional<int64_t> interleaved_head(const ModelConfig& config, std::string_view name);
// Where the file holds the row that Hugging Face has at `row`.
int64_t interleaved_row(int64_t row, int64_t head_dim);

// sha256 of what stands before the tensors' data.
std::string gguf_header_digest(const GgufFile& file);

}  // namespace kvlingua
