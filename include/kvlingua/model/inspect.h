// kvlingua inspect: what a model's cache is, for some prompts: shapes, bytes, norms and effective
// rank of each layer; whether runs repeat; how fast cached decoding is against uncached.
//
// Norms are Frobenius norms of a layer's [kv_heads, T, head_dim] keys (rotated, as attention sees
// them) or values. Effective rank: the layer as a matrix [T, kv_heads * head_dim], the fewest
// singular values whose squares sum to 90 % of all squares.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvlingua/model/causal_lm.h"

namespace kvlingua {

struct InspectOptions {
  std::filesystem::path directory;   // as resolve_model() gives it
  std::string name;                  // how the user called the model; empty: the directory
  std::vector<std::string> prompts;  // empty: default_inspect_prompts()
  LoadOptions load;
  std::filesystem::path dump;  // safetensors of the first prompt; empty: none
  int64_t determinism = 0;     // this many runs of the first prompt; 0: none
  bool bench = false;
  int64_t bench_limit = 2048;  // longest context of the bench
};

const std::vector<std::string>& default_inspect_prompts();

// {"prompts": [...], "projected": [...], "determinism": {...}, "bench": [...]}: each entry of
// prompts holds model, architecture, num_layers, num_kv_heads, head_dim, dtype, prompt, seq_len,
// total_bytes, bytes_per_token and layers; the last two only when asked for. Throws Error as
// CausalLM::load and Tokenizer do, and kInput for an empty prompt.
nlohmann::ordered_json inspect(const InspectOptions& options);

// What --out writes: the one prompt's object, or the list of them.
nlohmann::ordered_json inspect_metadata(const nlohmann::ordered_json& report);
// The report for people.
std::string inspect_table(const nlohmann::ordered_json& report);
// False when --determinism found two runs that differ.
bool inspect_repeats(const nlohmann::ordered_json& report);

}  // namespace kvlingua
