// Reading a shard (pair_shard.h): open, check, and rows out of it.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "datasets/pairs/pair_shard.h"
#include "datasets/pairs/pair_shard_names.h"
#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using h5::Type;

constexpr int64_t kPieceBytes = 512 << 10;

[[noreturn]] void corrupt(const std::filesystem::path& path, const std::string& place,
                          const std::string& what) {
  throw Error({.code = ExitCode::kCorrupt,
               .where = cat(path.string(), ": ", place),
               .what = what,
               .remedy = "delete the file and run generate again: it makes what is missing"});
}

// Offsets start at 0, never fall, end at `total`.
void check_offsets(const std::filesystem::path& path, const std::string& name,
                   const std::vector<int64_t>& offsets, int64_t samples, int64_t total) {
  const bool ok = static_cast<int64_t>(offsets.size()) == samples + 1 && offsets.front() == 0 &&
                  offsets.back() == total && std::is_sorted(offsets.begin(), offsets.end());
  if (!ok)
    corrupt(path, name, cat("offsets do not cover ", total, " entries of ", samples, " samples"));
}

struct SideView {
  h5::Array ids, row_token, row_position, keys, values;
  std::optional<h5::Array> key_scales, value_scales;

  SideView(const h5::File& file, const std::string& side, const KvShape& shape,
           StorageType storage) {
    ids = file.array(side + "/ids", Type::kInt32, {-1});
    row_token = file.array(side + "/row_token", Type::kInt32, {-1});
    const int64_t rows = row_token.rows();
    row_position = file.array(side + "/row_position", Type::kInt32, {rows});
    const std::vector<int64_t> dims{rows, shape.layers, shape.kv_heads, shape.head_dim};
    const std::vector<int64_t> scale_dims{rows, shape.layers, shape.kv_heads};
    keys = file.array(side + "/keys", storage_h5_type(storage), dims);
    values = file.array(side + "/values", storage_h5_type(storage), dims);
    if (storage == StorageType::kInt8) {
      key_scales = file.array(side + "/key_scales", Type::kFloat32, scale_dims);
      value_scales = file.array(side + "/value_scales", Type::kFloat32, scale_dims);
    }
  }
};

at::Tensor read_tensor(const h5::Array& array, int64_t begin, int64_t end, at::ScalarType type) {
  std::vector<int64_t> sizes = array.dims();
  sizes[0] = end - begin;
  at::Tensor out = at::empty(sizes, at::TensorOptions().dtype(type));
  array.read(begin, end - begin, out.mutable_data_ptr());
  return out;
}

std::vector<int32_t> read_ints(const h5::Array& array, int64_t begin, int64_t end) {
  std::vector<int32_t> out(static_cast<size_t>(end - begin));
  array.read(begin, end - begin, out.data());
  return out;
}

}  // namespace

struct ShardFile::Impl {
  PairSetInfo info;
  std::unique_ptr<h5::File> file;
  int64_t number = 0;
  ShardIndex index;
  std::optional<SideView> source, target;
  h5::Array text, alignment, source_row;
  std::optional<h5::Array> queries, attention_outputs;

  const SideView& side(Side s) const { return s == Side::kSource ? *source : *target; }
  const std::vector<int64_t>& row_offsets(Side s) const {
    return s == Side::kSource ? index.source_row_offsets : index.target_row_offsets;
  }

  void check_finite(Side s, const char* what, const at::Tensor& t, int64_t begin) const {
    if (!t.defined() || t.numel() == 0) return;
    const int64_t at = first_unusable(t);
    if (at < 0) return;
    const double number = t.flatten()[at].item<double>();
    const int64_t row = begin + at / (t.numel() / t.size(0));
    const auto& offsets = row_offsets(s);
    const int64_t i = std::upper_bound(offsets.begin(), offsets.end(), row) - offsets.begin() - 1;
    throw Error(
        {.code = ExitCode::kCorrupt,
         .where = cat(file->path().string(), ": sample ", index.id[static_cast<size_t>(i)]),
         .what = cat(std::isfinite(number) ? cat("a number too large to train on (", number, ")")
                                           : "NaN or infinity",
                     " in the ", to_string(s), "'s ", what, ", row ",
                     row - offsets[static_cast<size_t>(i)]),
         .remedy = "delete the file and run generate again: it makes what is missing"});
  }

  void check() const;

  void load_index() {
    ShardIndex& x = index;
    x.id = file->read_all<int64_t>("samples/id", Type::kInt64);
    const int64_t n = x.samples();
    x.document = file->read_all<int64_t>("samples/document", Type::kInt64, n);
    const auto use = file->read_all<uint8_t>("samples/use", Type::kUint8, n);
    for (uint8_t u : use) {
      if (u > 1) corrupt(file->path(), "samples/use", cat("unknown use ", int{u}));
      x.use.push_back(static_cast<SampleUse>(u));
    }
    x.text_offsets = file->read_all<int64_t>("samples/text_offsets", Type::kInt64, n + 1);
    x.source_token_offsets = file->read_all<int64_t>("source/token_offsets", Type::kInt64, n + 1);
    x.target_token_offsets = file->read_all<int64_t>("target/token_offsets", Type::kInt64, n + 1);
    x.source_row_offsets = file->read_all<int64_t>("source/row_offsets", Type::kInt64, n + 1);
    x.target_row_offsets = file->read_all<int64_t>("target/row_offsets", Type::kInt64, n + 1);
    check_offsets(file->path(), "samples/text_offsets", x.text_offsets, n, text.rows());
    check_offsets(file->path(), "source/token_offsets", x.source_token_offsets, n,
                  source->ids.rows());
    check_offsets(file->path(), "target/token_offsets", x.target_token_offsets, n,
                  target->ids.rows());
    check_offsets(file->path(), "source/row_offsets", x.source_row_offsets, n, source->keys.rows());
    check_offsets(file->path(), "target/row_offsets", x.target_row_offsets, n, target->keys.rows());
  }
};

namespace {

// One model's tokens and rows of all samples, as far as they are needed to check them.
struct SideCheck {
  const std::filesystem::path& path;
  std::string side;
  const std::vector<int64_t>&tokens, &rows;  // offsets
  std::vector<int32_t> row_token;

  SideCheck(const std::filesystem::path& file, const std::string& name, const SideView& view,
            const std::vector<int64_t>& token_offsets, const std::vector<int64_t>& row_offsets,
            const ModelRecord& model)
      : path(file), side(name), tokens(token_offsets), rows(row_offsets) {
    const auto ids = read_ints(view.ids, 0, view.ids.rows());
    const int64_t most = model.vocab_size > 0 ? model.vocab_size : int64_t{1} << 24;
    const auto odd =
        std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id < 0 || id >= most; });
    if (odd != ids.end()) corrupt(path, side + "/ids", cat("no token has the number ", *odd));
    row_token = read_ints(view.row_token, 0, view.row_token.rows());
    const auto position = read_ints(view.row_position, 0, view.row_position.rows());
    for (size_t i = 0; i + 1 < rows.size(); ++i) {
      const int64_t count = tokens[i + 1] - tokens[i];
      int64_t before = -1;
      for (auto r = static_cast<size_t>(rows[i]); r < static_cast<size_t>(rows[i + 1]); ++r) {
        if (row_token[r] <= before || row_token[r] >= count)
          corrupt(path, side + "/row_token",
                  cat("row ", r, " is of token ", row_token[r], " of ", count,
                      row_token[r] <= before ? ", not behind the one before" : ""));
        before = row_token[r];
        if (position[r] != model.prefix_tokens + row_token[r])
          corrupt(path, side + "/row_position",
                  cat("row ", r, " stands at ", position[r], " instead of ",
                      model.prefix_tokens + row_token[r]));
      }
    }
  }
};

}  // namespace

// So that nothing that reads a shard need look again: every index points at something.
void ShardFile::Impl::check() const {
  const std::filesystem::path& path = file->path();
  const ShardIndex& x = index;
  for (size_t i = 0; i < x.id.size(); ++i) {
    if (x.id[i] < 0 || x.document[i] < 0 || (i > 0 && x.id[i] != x.id[i - 1] + 1))
      corrupt(path, "samples/id", cat("sample ", i, " has the number ", x.id[i]));
  }
  const SideCheck s(path, "source", *source, x.source_token_offsets, x.source_row_offsets,
                    info.source),
      t(path, "target", *target, x.target_token_offsets, x.target_row_offsets, info.target);
  const auto aligned = read_ints(alignment, 0, alignment.rows()),
             rows_aligned = read_ints(source_row, 0, source_row.rows());
  for (size_t i = 0; i + 1 < x.text_offsets.size(); ++i) {
    const int64_t source_tokens = x.source_token_offsets[i + 1] - x.source_token_offsets[i],
                  source_rows = x.source_row_offsets[i + 1] - x.source_row_offsets[i];
    for (int64_t k = x.target_token_offsets[i]; k < x.target_token_offsets[i + 1]; ++k) {
      const int32_t to = aligned[static_cast<size_t>(k)];
      if (to < 0 || to >= source_tokens)
        corrupt(path, "target/alignment",
                cat("token ", k, " takes token ", to, " of ", source_tokens));
    }
    for (int64_t r = x.target_row_offsets[i]; r < x.target_row_offsets[i + 1]; ++r) {
      const int32_t to = rows_aligned[static_cast<size_t>(r)];
      if (to < 0 || to >= source_rows)
        corrupt(path, "target/source_row",
                cat("row ", r, " is aligned to row ", to, " of ", source_rows));
      const int32_t of_row = s.row_token[static_cast<size_t>(x.source_row_offsets[i] + to)];
      const int64_t token = x.target_token_offsets[i] + t.row_token[static_cast<size_t>(r)];
      if (of_row != aligned[static_cast<size_t>(token)])
        corrupt(path, "target/source_row", cat("row ", r, " does not follow the alignment"));
    }
  }
}

ShardFile::ShardFile(const std::filesystem::path& path, const PairSetInfo& info)
    : impl_(std::make_unique<Impl>()) {
  Impl& s = *impl_;
  s.info = info;
  s.file = h5::File::open(path);
  if (s.file->read_text_attribute("format") != kPairFormat)
    corrupt(path, "format", "not a shard of a pair set");
  if (s.file->read_int_attribute("version") != kPairSchemaVersion)
    corrupt(path, "version", "another schema version");
  s.source.emplace(*s.file, "source", info.source.shape, info.storage);
  s.target.emplace(*s.file, "target", info.target.shape, info.storage);
  s.text = s.file->array("samples/text", Type::kUint8, {-1});
  s.alignment = s.file->array("target/alignment", Type::kInt32, {s.target->ids.rows()});
  s.source_row = s.file->array("target/source_row", Type::kInt32, {s.target->keys.rows()});
  const Type query_type = storage_h5_type(query_storage(info.storage));
  const std::vector<int64_t> dims{s.target->keys.rows(), info.target.shape.layers,
                                  info.target.query_heads, info.target.shape.head_dim};
  if (info.queries) s.queries = s.file->array("target/queries", query_type, dims);
  if (info.attention_outputs)
    s.attention_outputs = s.file->array("target/attention_outputs", query_type, dims);
  s.number = s.file->read_int_attribute("shard");
  s.load_index();
  s.check();
  s.file->release();  // thousands of shards may be open
}

ShardFile::~ShardFile() {
  // Arrays are closed before the file that they belong to.
  if (impl_) {
    impl_->source.reset();
    impl_->target.reset();
    impl_->queries.reset();
    impl_->attention_outputs.reset();
    impl_->text = impl_->alignment = impl_->source_row = h5::Array();
  }
}

const ShardIndex& ShardFile::index() const { return impl_->index; }
int64_t ShardFile::number() const { return impl_->number; }
const std::filesystem::path& ShardFile::path() const { return impl_->file->path(); }

SampleRecord ShardFile::sample(int64_t i) const {
  const Impl& s = *impl_;
  const ShardIndex& x = s.index;
  if (i < 0 || i >= x.samples()) {
    throw Error({.where = path().string(),
                 .what = "no such sample",
                 .got = cat(i),
                 .expected = cat("below ", x.samples())});
  }
  const auto at = static_cast<size_t>(i);
  SampleRecord r;
  r.id = x.id[at];
  r.document = x.document[at];
  r.use = x.use[at];
  r.text.resize(static_cast<size_t>(x.text_offsets[at + 1] - x.text_offsets[at]));
  s.text.read(x.text_offsets[at], static_cast<int64_t>(r.text.size()), r.text.data());
  const auto fill = [&](SampleSide& side, const SideView& view, const std::vector<int64_t>& tokens,
                        const std::vector<int64_t>& rows) {
    side.ids = read_ints(view.ids, tokens[at], tokens[at + 1]);
    side.row_token = read_ints(view.row_token, rows[at], rows[at + 1]);
    side.row_position = read_ints(view.row_position, rows[at], rows[at + 1]);
  };
  fill(r.source, *s.source, x.source_token_offsets, x.source_row_offsets);
  fill(r.target, *s.target, x.target_token_offsets, x.target_row_offsets);
  r.alignment = read_ints(s.alignment, x.target_token_offsets[at], x.target_token_offsets[at + 1]);
  r.target_source_row =
      read_ints(s.source_row, x.target_row_offsets[at], x.target_row_offsets[at + 1]);
  return r;
}

StoredRows ShardFile::rows(Side side, int64_t begin, int64_t end, bool check_finite) const {
  const SideView& view = impl_->side(side);
  const auto room = [&](const h5::Array& array, at::ScalarType type) {
    std::vector<int64_t> sizes = array.dims();
    sizes[0] = end - begin;
    return at::empty(sizes, at::TensorOptions().dtype(type));
  };
  const at::ScalarType type = storage_scalar_type(impl_->info.storage);
  StoredRows rows;
  rows.keys = room(view.keys, type);
  rows.values = room(view.values, type);
  if (view.key_scales) rows.key_scales = room(*view.key_scales, at::kFloat);
  if (view.value_scales) rows.value_scales = room(*view.value_scales, at::kFloat);
  rows_into(side, begin, end, rows, 0, check_finite);
  return rows;
}

void ShardFile::rows_into(Side side, int64_t begin, int64_t end, StoredRows& out, int64_t at,
                          bool check_finite) const {
  const SideView& view = impl_->side(side);
  // In pieces that stay in the processor's cache between reading and looking.
  const auto read = [&](const h5::Array& array, at::Tensor& to, const char* what) {
    const int64_t piece =
        std::max<int64_t>(1, kPieceBytes / std::max<int64_t>(array.row_bytes(), 1));
    for (int64_t from = begin; from < end; from += piece) {
      const int64_t until = std::min(from + piece, end);
      const at::Tensor room = to.narrow(0, at + from - begin, until - from);
      array.read(from, until - from, room.mutable_data_ptr());
      if (check_finite) impl_->check_finite(side, what, room, from);
    }
  };
  read(view.keys, out.keys, "keys");
  read(view.values, out.values, "values");
  if (view.key_scales) read(*view.key_scales, out.key_scales, "keys");
  if (view.value_scales) read(*view.value_scales, out.value_scales, "values");
}

std::vector<int64_t> ShardFile::target_source_rows(int64_t begin, int64_t end) const {
  const std::vector<int32_t> local = read_ints(impl_->source_row, begin, end);
  const ShardIndex& x = impl_->index;
  auto sample = std::upper_bound(x.target_row_offsets.begin(), x.target_row_offsets.end(), begin) -
                x.target_row_offsets.begin() - 1;
  std::vector<int64_t> rows(local.size());
  for (size_t i = 0; i < local.size(); ++i) {
    const int64_t row = begin + static_cast<int64_t>(i);
    while (row >= x.target_row_offsets[static_cast<size_t>(sample) + 1]) ++sample;
    const int64_t first = x.source_row_offsets[static_cast<size_t>(sample)];
    const int64_t last = x.source_row_offsets[static_cast<size_t>(sample) + 1];
    rows[i] = first + local[i];
    if (local[i] < 0 || rows[i] >= last) {
      corrupt(path(), "target/source_row",
              cat("row ", row, " is aligned to row ", local[i], " of ", last - first));
    }
  }
  return rows;
}

std::vector<int32_t> ShardFile::row_positions(Side side, int64_t begin, int64_t end) const {
  return read_ints(impl_->side(side).row_position, begin, end);
}

at::Tensor ShardFile::target_queries(int64_t begin, int64_t end) const {
  if (!impl_->queries) return {};
  at::Tensor rows = read_tensor(*impl_->queries, begin, end,
                                storage_scalar_type(query_storage(impl_->info.storage)));
  impl_->check_finite(Side::kTarget, "queries", rows, begin);
  return rows;
}

at::Tensor ShardFile::target_attention_outputs(int64_t begin, int64_t end) const {
  if (!impl_->attention_outputs) return {};
  at::Tensor rows = read_tensor(*impl_->attention_outputs, begin, end,
                                storage_scalar_type(query_storage(impl_->info.storage)));
  impl_->check_finite(Side::kTarget, "attention outputs", rows, begin);
  return rows;
}

}  // namespace kvlingua
