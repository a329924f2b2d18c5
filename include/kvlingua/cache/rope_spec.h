// RopeSpec: the numbers that determine a model's rotary embedding, without the tensors (those are
// in rope.h), so that a config.json can be read where there is no torch.
#pragma once

#include <cstdint>
#include <string>

namespace kvlingua {

enum class RopeType { kDefault, kLinear, kLlama3, kYarn };

// Everything that determines the rotation of a key. Two caches with equal specs can be joined.
struct RopeSpec {
  RopeType type = RopeType::kDefault;
  int64_t head_dim = 0;
  double theta = 10000.0;
  double factor = 1.0;
  // llama3
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_max_position = 0;  // llama3 and yarn
  // yarn
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double attention_factor = 1.0;  // already resolved: what cos and sin are multiplied by
  bool truncate = true;

  bool operator==(const RopeSpec&) const = default;
};

inline std::string to_string(RopeType type) {
  switch (type) {
    case RopeType::kDefault:
      return "default";
    case RopeType::kLinear:
      return "linear";
    case RopeType::kLlama3:
      return "llama3";
    case RopeType::kYarn:
      return "yarn";
  }
  return "?";
}

}  // namespace kvlingua
