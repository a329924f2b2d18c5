// Writing a shard (pair_shard.h): arrays of a size known ahead, filled in any order.
#include <ATen/ATen.h>

#include <optional>
#include <utility>

#include "datasets/pairs/pair_shard.h"
#include "datasets/pairs/pair_shard_names.h"
#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using h5::Type;

// Ragged integer data of one model, gathered until the shard is finished: small beside the caches.
struct SideColumns {
  std::vector<int64_t> token_offsets{0}, row_offsets{0};
  std::vector<int32_t> ids, row_token, row_position;

  void add(const SampleSide& side) {
    ids.insert(ids.end(), side.ids.begin(), side.ids.end());
    row_token.insert(row_token.end(), side.row_token.begin(), side.row_token.end());
    row_position.insert(row_position.end(), side.row_position.begin(), side.row_position.end());
    token_offsets.push_back(static_cast<int64_t>(ids.size()));
    row_offsets.push_back(static_cast<int64_t>(row_token.size()));
  }
};

// The arrays of one model that are filled batch by batch.
struct SideArrays {
  h5::Array keys, values;
  std::optional<h5::Array> key_scales, value_scales;

  SideArrays(h5::File& file, const std::string& side, const KvShape& shape, StorageType storage,
             int64_t expected_rows) {
    const std::vector<int64_t> dims{expected_rows, shape.layers, shape.kv_heads, shape.head_dim};
    const std::vector<int64_t> scale_dims{expected_rows, shape.layers, shape.kv_heads};
    keys = file.create_rows(side + "/keys", storage_h5_type(storage), dims);
    values = file.create_rows(side + "/values", storage_h5_type(storage), dims);
    if (storage == StorageType::kInt8) {
      key_scales = file.create_rows(side + "/key_scales", Type::kFloat32, scale_dims);
      value_scales = file.create_rows(side + "/value_scales", Type::kFloat32, scale_dims);
    }
  }
  void append(const StoredRows& rows) {
    const int64_t n = rows.count();
    if (n == 0) return;
    keys.append(rows.keys.const_data_ptr(), n);
    values.append(rows.values.const_data_ptr(), n);
    if (key_scales) key_scales->append(rows.key_scales.const_data_ptr(), n);
    if (value_scales) value_scales->append(rows.value_scales.const_data_ptr(), n);
  }
};

// Throws naming the sample that owns this row.
[[noreturn]] void not_finite(const std::vector<SampleRecord>& samples, Side side, const char* what,
                             int64_t row, const PairSetInfo& info) {
  int64_t begin = 0;
  for (const SampleRecord& sample : samples) {
    const SampleSide& s = side == Side::kSource ? sample.source : sample.target;
    const auto rows = static_cast<int64_t>(s.row_token.size());
    if (row < begin + rows) {
      throw Error(
          {.code = ExitCode::kInput,
           .where = cat("sample ", sample.id, " (document ", sample.document, ")"),
           .what = cat("the ", to_string(side), "'s ", what,
                       " are not finite, or too large to train on, at token ",
                       s.row_token[static_cast<size_t>(row - begin)]),
           .remedy = info.storage == StorageType::kFloat16
                         ? "the numbers may be too large for float16: data.storage_dtype: bfloat16"
                         : "the model overflows: compute in another dtype (pair." +
                               to_string(side) + ".dtype)"});
    }
    begin += rows;
  }
  throw Error({.where = "pair writer", .what = "more rows than samples own"});
}

}  // namespace

std::string to_string(Side side) { return side == Side::kSource ? "source" : "target"; }

struct ShardWriter::Impl {
  PairSetInfo info;
  std::unique_ptr<h5::File> file;
  std::optional<SideArrays> source, target;
  std::optional<h5::Array> queries, attention_outputs;
  SideColumns source_columns, target_columns;
  std::vector<int64_t> id, document, text_offsets{0};
  std::vector<uint8_t> use;
  std::vector<int32_t> alignment, target_source_row;
  std::string text;
  ShardEntry entry;
  double covered = 0.0;

  void add(const SampleRecord& sample) {
    id.push_back(sample.id);
    document.push_back(sample.document);
    use.push_back(static_cast<uint8_t>(sample.use));
    text += sample.text;
    text_offsets.push_back(static_cast<int64_t>(text.size()));
    source_columns.add(sample.source);
    target_columns.add(sample.target);
    alignment.insert(alignment.end(), sample.alignment.begin(), sample.alignment.end());
    target_source_row.insert(target_source_row.end(), sample.target_source_row.begin(),
                             sample.target_source_row.end());
    covered += sample.alignment_covered;
    if (sample.use == SampleUse::kTrain) ++entry.train_samples;
  }

  // `before`: rows of these samples that came earlier.
  void check(Side side, const SideRows& rows, const std::vector<SampleRecord>& samples,
             int64_t before) const {
    const auto finite = [&](const at::Tensor& t, const char* what) {
      if (!t.defined() || t.numel() == 0) return;
      const int64_t at = first_unusable(t);
      if (at >= 0) not_finite(samples, side, what, before + at / (t.numel() / t.size(0)), info);
    };
    finite(rows.rows.keys, "keys");
    finite(rows.rows.key_scales, "keys");
    finite(rows.rows.values, "values");
    finite(rows.rows.value_scales, "values");
    finite(rows.queries, "queries");
    finite(rows.attention_outputs, "attention outputs");
  }
  void put(Side side, const SideRows& rows) {
    (side == Side::kSource ? source : target)->append(rows.rows);
    if (side == Side::kSource) return;
    for (const auto& [array, tensor] : {std::pair(&queries, &rows.queries),
                                        std::pair(&attention_outputs, &rows.attention_outputs)}) {
      if (*array) (*array)->append(tensor->const_data_ptr(), tensor->size(0));
    }
  }

  template <class T>
  void column(const std::string& name, Type type, const std::vector<T>& data) {
    file->write(name, type, {static_cast<int64_t>(data.size())}, data.data());
  }
  void side_columns(const std::string& side, const SideColumns& c) {
    column(side + "/token_offsets", Type::kInt64, c.token_offsets);
    column(side + "/ids", Type::kInt32, c.ids);
    column(side + "/row_offsets", Type::kInt64, c.row_offsets);
    column(side + "/row_token", Type::kInt32, c.row_token);
    column(side + "/row_position", Type::kInt32, c.row_position);
  }
};

ShardWriter::ShardWriter(const std::filesystem::path& path, int64_t index, const PairSetInfo& info,
                         const ShardSizes& expected)
    : impl_(std::make_unique<Impl>()) {
  Impl& s = *impl_;
  s.info = info;
  s.entry.index = index;
  s.entry.file = shard_file_name(index);
  s.file = h5::File::create(path);
  s.file->write_attribute("format", kPairFormat);
  s.file->write_attribute("version", kPairSchemaVersion);
  s.file->write_attribute("shard", index);
  s.file->write_attribute("storage", to_string(info.storage));
  s.file->write_attribute("info", info.to_json().dump());
  for (const char* group : {"samples", "source", "target"}) s.file->make_group(group);
  s.source.emplace(*s.file, "source", info.source.shape, info.storage, expected.source_rows);
  s.target.emplace(*s.file, "target", info.target.shape, info.storage, expected.target_rows);
  const KvShape& t = info.target.shape;
  const std::vector<int64_t> query_dims{expected.target_rows, t.layers, info.target.query_heads,
                                        t.head_dim};
  const Type query_type = storage_h5_type(query_storage(info.storage));
  if (info.queries) s.queries = s.file->create_rows("target/queries", query_type, query_dims);
  if (info.attention_outputs) {
    s.attention_outputs = s.file->create_rows("target/attention_outputs", query_type, query_dims);
  }
}

ShardWriter::~ShardWriter() = default;

void ShardWriter::append(const EncodedBatch& batch) {
  const SideRows source{.rows = batch.source};
  const SideRows target{.rows = batch.target,
                        .queries = batch.target_queries,
                        .attention_outputs = batch.target_attention_outputs};
  impl_->check(Side::kSource, source, batch.samples, 0);
  impl_->check(Side::kTarget, target, batch.samples, 0);
  impl_->put(Side::kSource, source);
  impl_->put(Side::kTarget, target);
  append_samples(batch.samples);
}

void ShardWriter::append_rows(Side side, const SideRows& rows,
                              const std::vector<SampleRecord>& samples, int64_t before) {
  impl_->check(side, rows, samples, before);
  impl_->put(side, rows);
}

void ShardWriter::append_samples(const std::vector<SampleRecord>& samples) {
  for (const SampleRecord& sample : samples) impl_->add(sample);
}

ShardEntry ShardWriter::finish() {
  Impl& s = *impl_;
  for (const h5::Array* array : {&s.source->keys, &s.target->keys}) {
    if (array->written() == array->rows()) continue;
    throw Error({.where = s.entry.file,
                 .what = "fewer rows than planned",
                 .got = cat(array->written()),
                 .expected = cat(array->rows())});
  }
  s.column("samples/id", Type::kInt64, s.id);
  s.column("samples/document", Type::kInt64, s.document);
  s.column("samples/use", Type::kUint8, s.use);
  s.column("samples/text_offsets", Type::kInt64, s.text_offsets);
  s.file->write("samples/text", Type::kUint8, {static_cast<int64_t>(s.text.size())}, s.text.data());
  s.side_columns("source", s.source_columns);
  s.side_columns("target", s.target_columns);
  s.column("target/alignment", Type::kInt32, s.alignment);
  s.column("target/source_row", Type::kInt32, s.target_source_row);
  ShardEntry& e = s.entry;
  e.samples = static_cast<int64_t>(s.id.size());
  e.source_tokens = static_cast<int64_t>(s.source_columns.ids.size());
  e.target_tokens = static_cast<int64_t>(s.target_columns.ids.size());
  e.source_rows = s.source->keys.rows();
  e.target_rows = s.target->keys.rows();
  e.alignment_covered = e.samples > 0 ? s.covered / static_cast<double>(e.samples) : 1.0;
  s.source.reset();
  s.target.reset();
  s.queries.reset();
  s.attention_outputs.reset();
  s.file->close();
  return e;
}

}  // namespace kvlingua
