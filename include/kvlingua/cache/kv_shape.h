// The shape of one model's key/value cache. kv_heads, not query heads: under grouped-query
// attention they differ.
#pragma once

#include <cstdint>
#include <string>

namespace kvlingua {

struct KvShape {
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;

  // Channels of one layer's keys (or values) of one token, in head-major order: index = head *
  // head_dim + d.
  int64_t width() const { return kv_heads * head_dim; }
  // Keys and values of all layers for one token. element_size in bytes.
  int64_t bytes_per_token(int64_t element_size) const {
    return 2 * layers * width() * element_size;
  }
  std::string describe() const {
    return std::to_string(layers) + " layers x " + std::to_string(kv_heads) + " KV heads x " +
           std::to_string(head_dim) + " channels";
  }
  bool operator==(const KvShape&) const = default;
};

}  // namespace kvlingua
