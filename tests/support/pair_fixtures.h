// Made-up pair sets for tests: small shapes, seeded numbers, no model.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "datasets/pairs/pair_codec.h"
#include "datasets/pairs/pair_schema.h"
#include "datasets/pairs/pair_shard.h"
#include "datasets/pairs/pair_writer.h"
#include "kvlingua/base/random.h"
#include "support/temp_dir.h"

namespace kvlingua::testing {

inline PairSetInfo small_info(StorageType storage = StorageType::kFloat32) {
  PairSetInfo info;
  info.source = {.name = "tiny-source",
                 .architecture = "Qwen3ForCausalLM",
                 .config_sha256 = "aa",
                 .weights = "bb",
                 .tokenizer = "cc",
                 .dtype = "float32",
                 .shape = {3, 2, 8},
                 .query_heads = 4,
                 .prefix_tokens = 5};
  info.target = {.name = "tiny-target",
                 .architecture = "Qwen2ForCausalLM",
                 .config_sha256 = "dd",
                 .weights = "ee",
                 .tokenizer = "ff",
                 .dtype = "float32",
                 .shape = {2, 1, 4},
                 .query_heads = 2,
                 .prefix_tokens = 3};
  info.source.rope.head_dim = 8;
  info.target.rope.head_dim = 4;
  info.storage = storage;
  info.alignment = "last_char";
  info.corpus = {{"kind", "test"}};
  info.plan = {{"seed", 1}};
  info.recipe_yaml = "name: test\n";
  info.recipe_sha256 = "0123";
  return info;
}

// One sample's tensors before encoding: [rows, L, H, D].
struct RawSample {
  SampleRecord record;
  at::Tensor source_keys, source_values, target_keys, target_values, queries, outputs;
};

inline at::Tensor seeded(std::vector<int64_t> sizes, uint64_t seed, double scale = 1.0) {
  at::Tensor t = at::empty(sizes, at::kFloat);
  Random random(seed);
  float* p = t.mutable_data_ptr<float>();
  for (int64_t i = 0; i < t.numel(); ++i)
    p[i] = static_cast<float>((random.uniform() * 2 - 1) * scale);
  return t;
}

// Sample `id` of a made-up set: everything is a function of (id, seed). keep: rows stored of each,
// 0 = all.
inline RawSample make_sample(int64_t id, const PairSetInfo& info, uint64_t seed = 1,
                             int64_t keep = 0) {
  Random random(mix(seed, static_cast<uint64_t>(id)));
  RawSample s;
  SampleRecord& r = s.record;
  r.id = id;
  r.document = id * 7 % 1000;
  r.use = random.chance(.2) ? SampleUse::kValidation : SampleUse::kTrain;
  r.text = "sample " + std::to_string(id) + " \xc3\xa9";
  const auto target_tokens = static_cast<int64_t>(3 + random.below(9)),
             source_tokens = static_cast<int64_t>(2 + random.below(10));
  for (int64_t t = 0; t < source_tokens; ++t)
    r.source.ids.push_back(static_cast<int32_t>(random.below(500)));
  for (int64_t t = 0; t < target_tokens; ++t) {
    r.target.ids.push_back(static_cast<int32_t>(random.below(500)));
    r.alignment.push_back(
        static_cast<int32_t>(std::min(source_tokens - 1, t * source_tokens / target_tokens)));
  }
  const int64_t rows = keep > 0 ? std::min(keep, target_tokens) : target_tokens;
  for (int64_t t = 0; t < rows; ++t) r.target.row_token.push_back(static_cast<int32_t>(t));
  if (keep == 0) {
    for (int64_t t = 0; t < source_tokens; ++t)
      r.source.row_token.push_back(static_cast<int32_t>(t));
    r.target_source_row = r.alignment;
  } else {
    for (int64_t t = 0; t < rows; ++t) {
      const int32_t from = r.alignment[static_cast<size_t>(t)];
      if (r.source.row_token.empty() || r.source.row_token.back() != from)
        r.source.row_token.push_back(from);
      r.target_source_row.push_back(static_cast<int32_t>(r.source.row_token.size()) - 1);
    }
  }
  for (int32_t t : r.source.row_token) r.source.row_position.push_back(t + 5);
  for (int32_t t : r.target.row_token) r.target.row_position.push_back(t + 3);
  const auto& a = info.source.shape;
  const auto& b = info.target.shape;
  const auto source_rows = static_cast<int64_t>(r.source.row_token.size());
  const uint64_t base = mix(seed + 100, static_cast<uint64_t>(id));
  s.source_keys = seeded({source_rows, a.layers, a.kv_heads, a.head_dim}, base, 3.0);
  s.source_values = seeded({source_rows, a.layers, a.kv_heads, a.head_dim}, base + 1);
  s.target_keys = seeded({rows, b.layers, b.kv_heads, b.head_dim}, base + 2, 5.0);
  s.target_values = seeded({rows, b.layers, b.kv_heads, b.head_dim}, base + 3);
  s.queries = seeded({rows, b.layers, info.target.query_heads, b.head_dim}, base + 4);
  s.outputs = seeded({rows, b.layers, info.target.query_heads, b.head_dim}, base + 5);
  return s;
}

inline EncodedBatch encode_batch(const std::vector<RawSample>& samples, const PairSetInfo& info) {
  std::vector<at::Tensor> sk, sv, tk, tv, q, o;
  EncodedBatch batch;
  for (const RawSample& s : samples) {
    batch.samples.push_back(s.record);
    sk.push_back(s.source_keys), sv.push_back(s.source_values), tk.push_back(s.target_keys),
        tv.push_back(s.target_values);
    q.push_back(s.queries), o.push_back(s.outputs);
  }
  batch.source.keys = encode_rows(at::cat(sk), info.storage, &batch.source.key_scales);
  batch.source.values = encode_rows(at::cat(sv), info.storage, &batch.source.value_scales);
  batch.target.keys = encode_rows(at::cat(tk), info.storage, &batch.target.key_scales);
  batch.target.values = encode_rows(at::cat(tv), info.storage, &batch.target.value_scales);
  if (info.queries)
    batch.target_queries = at::cat(q).to(
        info.storage == StorageType::kInt8 ? at::kHalf : storage_scalar_type(info.storage));
  if (info.attention_outputs) {
    batch.target_attention_outputs = at::cat(o).to(
        info.storage == StorageType::kInt8 ? at::kHalf : storage_scalar_type(info.storage));
  }
  return batch;
}

// Publishes samples 0 .. samples - 1 as a finished pair set, `per_shard` in each shard.
inline void make_pair_set(const std::filesystem::path& directory, const PairSetInfo& info,
                          int64_t samples, int64_t per_shard, uint64_t seed = 1) {
  PairManifest manifest;
  manifest.info = info;
  manifest.planned_samples = samples;
  manifest.planned_shards = (samples + per_shard - 1) / per_shard;
  PairWriter writer({.directory = directory}, manifest);
  for (int64_t shard = 0; shard < manifest.planned_shards; ++shard) {
    const int64_t end = std::min(samples, (shard + 1) * per_shard);
    ShardSizes sizes;
    for (int64_t i = shard * per_shard; i < end; ++i) {
      const RawSample sample = make_sample(i, info, seed);
      sizes.source_rows += sample.source_keys.size(0);
      sizes.target_rows += sample.target_keys.size(0);
    }
    writer.begin_shard(shard, sizes);
    for (int64_t i = shard * per_shard; i < end; i += 4) {
      std::vector<RawSample> batch;
      for (int64_t j = i; j < std::min(end, i + 4); ++j)
        batch.push_back(make_sample(j, info, seed));
      writer.append(shard, encode_batch(batch, info));
    }
    writer.end_shard(shard);
  }
  writer.finish();
}

}  // namespace kvlingua::testing
