// What a pair set is on disk: names, versions and records shared by everything that writes or reads
// one.
//
// A pair set is a folder: manifest.json and shards (shard-000000.h5, ...). A shard is one HDF5
// file, written once. Ragged data is flattened, with offsets: sample i owns entries [offsets[i],
// offsets[i + 1]). Per model ("source", "target"):
//   tokens   the ids of the whole span, as the model read it
//   rows     the tokens whose cache entries are stored: all of them, or some (tokens_per_sample)
//   keys, values   [rows, layers, kv_heads, head_dim], keys un-rotated
//   row_position   where the key of each row stood
// Token-major rows make both uses cheap: training gathers aligned rows of all layers, evaluation
// reads whole sequences, which are contiguous. The full schema, with h5py examples, is in
// datasets/README.md.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/cache/kv_shape.h"
#include "kvlingua/cache/rope.h"

namespace kvlingua {

inline constexpr int64_t kPairSchemaVersion = 1;
inline constexpr std::string_view kPairFormat = "kvlingua-pairs";
inline constexpr std::string_view kManifestFile = "manifest.json";

// How keys and values are stored. bfloat16 has no HDF5 type: its bits are stored as uint16. int8
// stores round(x / scale) with one float32 scale per (row, layer, head), scale = max |x| / 127.
enum class StorageType { kFloat32, kBFloat16, kFloat16, kInt8 };
std::string to_string(StorageType type);
StorageType storage_type_from_name(std::string_view name);  // throws Error (kUsage)
int64_t storage_size(StorageType type);                // bytes of one number, scales not counted
at::ScalarType storage_scalar_type(StorageType type);  // kFloat, kBFloat16, kHalf, kChar

// Validation samples are told apart by a hash of their group, so near-duplicates never stand on
// both sides.
enum class SampleUse : uint8_t { kTrain = 0, kValidation = 1 };

// One model as a pair set remembers it. Everything that decides the numbers of its cache.
struct ModelRecord {
  std::string name;
  std::string architecture;
  std::string config_sha256;
  std::string weights;    // CausalLM::fingerprint()
  std::string tokenizer;  // Tokenizer::fingerprint()
  std::string dtype;      // computed in
  KvShape shape;
  int64_t query_heads = 0;
  RopeSpec rope;
  int64_t vocab_size = 0;  // ids are below it; 0: not known (sets made before it was kept)
  std::string chat;        // template family, empty when samples are plain text
  std::string prefix;      // the text before every span: the chat prefix
  // Tokens before every span (chat prefix, BOS); their entries are not stored.
  int64_t prefix_tokens = 0;
};

// What one pair set holds and how it was made. Two runs with equal identity() make equal samples.
struct PairSetInfo {
  ModelRecord source, target;
  StorageType storage = StorageType::kFloat32;
  std::string alignment;          // AlignmentKind by name
  int64_t tokens_per_sample = 0;  // 0: every token of a sample is stored
  bool queries = false;
  bool attention_outputs = false;
  nlohmann::json corpus;  // kind, files, sha256, documents
  nlohmann::json plan;    // seed, lengths, budgets, batches: what decides samples and their order
  std::string recipe_yaml;
  std::string recipe_sha256;

  nlohmann::json to_json() const;
  static PairSetInfo from_json(const nlohmann::json& j,
                               const std::string& where);  // throws Error (kCorrupt)
  // Without what may change between an interrupted run and its continuation (recipe text).
  nlohmann::json identity() const;
  // Bytes of one stored row (keys, values, scales) of each side.
  int64_t source_row_bytes() const;
  int64_t target_row_bytes() const;
  int64_t query_row_bytes()
      const;  // queries and attention outputs of one target row; 0 when not stored
};

// Dotted path of the first field in which two records differ, with both values: {"storage",
// "float16", "float32"}.
struct FieldDifference {
  std::string field, first, second;
};
std::optional<FieldDifference> first_difference(const nlohmann::json& a, const nlohmann::json& b);

nlohmann::json rope_to_json(const RopeSpec& rope);
RopeSpec rope_from_json(const nlohmann::json& j, const std::string& where);

// One published shard, as the manifest lists it.
struct ShardEntry {
  int64_t index = 0;
  std::string file;
  int64_t bytes = 0;
  std::string sha256;
  int64_t samples = 0, train_samples = 0;
  int64_t source_tokens = 0, target_tokens = 0;
  int64_t source_rows = 0, target_rows = 0;
  double alignment_covered = 1.0;  // mean over samples
  nlohmann::json quantisation;     // measured on the shard's first batch: {source: {keys:
                                   // {relative_rms, max_abs}, ...}}
};
std::string shard_file_name(int64_t index);

}  // namespace kvlingua
