#include "datasets/generation/source_stage.h"

#include <ATen/ATen.h>

#include <fstream>
#include <optional>

#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/file_ops.h"
#include "kvlingua/io/manifest.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

std::string stage_name(int64_t shard) { return cat("shard-", shard, ".source"); }

}  // namespace

struct SourceStage::Impl {
  fs::path folder, manifest_path;
  PairSetInfo info;
  Manifest manifest;
  std::optional<AtomicFile> writing;
  int64_t writing_shard = 0, reading_shard = 0;
  std::ifstream reading;

  void check_read(const char* what) const {
    if (reading) return;
    throw Error({.code = ExitCode::kCorrupt,
                 .where = (folder / stage_name(reading_shard)).string(),
                 .what = what,
                 .remedy = "delete it and run generate again"});
  }
  void save() { manifest.save(manifest_path); }
};

SourceStage::SourceStage(const fs::path& directory, int64_t rank, const PairSetInfo& info)
    : impl_(std::make_unique<Impl>()) {
  Impl& s = *impl_;
  s.folder = directory / ".stage";
  s.manifest_path = s.folder / cat("manifest.rank-", rank, ".json");
  s.info = info;
  make_directories(s.folder);
  if (fs::exists(s.manifest_path)) s.manifest = Manifest::load(s.manifest_path);
  if (s.manifest.attributes().contains("identity") &&
      s.manifest.attributes()["identity"] != info.identity())
    s.manifest = Manifest();
  s.manifest.attributes()["identity"] = info.identity();
}

SourceStage::~SourceStage() = default;

bool SourceStage::has(int64_t shard) const {
  const ManifestEntry* entry = impl_->manifest.find(stage_name(shard));
  const fs::path path = impl_->folder / stage_name(shard);
  return entry != nullptr && fs::exists(path) && fs::file_size(path) == entry->bytes &&
         sha256_file(path) == entry->sha256;
}

void SourceStage::begin(int64_t shard) {
  impl_->writing.emplace(impl_->folder / stage_name(shard));
  impl_->writing_shard = shard;
}

void SourceStage::append(const StoredRows& rows) {
  for (const at::Tensor* t : {&rows.keys, &rows.values, &rows.key_scales, &rows.value_scales}) {
    if (t->defined()) impl_->writing->write(t->const_data_ptr(), t->nbytes());
  }
}

void SourceStage::publish(const nlohmann::json& quantisation) {
  Impl& s = *impl_;
  s.writing->commit();
  s.writing.reset();
  s.manifest.set_file(s.folder, stage_name(s.writing_shard), {{"quantisation", quantisation}});
  s.save();
}

void SourceStage::open(int64_t shard) {
  Impl& s = *impl_;
  s.reading = std::ifstream(s.folder / stage_name(shard), std::ios::binary);
  s.reading_shard = shard;
  s.check_read("cannot be read");
}

StoredRows SourceStage::read(int64_t count) {
  Impl& s = *impl_;
  const KvShape& shape = s.info.source.shape;
  const auto fill = [&](std::vector<int64_t> sizes, at::ScalarType type) {
    at::Tensor t = at::empty(sizes, at::TensorOptions().dtype(type));
    s.reading.read(static_cast<char*>(t.mutable_data_ptr()),
                   static_cast<std::streamsize>(t.nbytes()));
    s.check_read("ends too early");
    return t;
  };
  StoredRows rows;
  const at::ScalarType type = storage_scalar_type(s.info.storage);
  rows.keys = fill({count, shape.layers, shape.kv_heads, shape.head_dim}, type);
  rows.values = fill({count, shape.layers, shape.kv_heads, shape.head_dim}, type);
  if (s.info.storage == StorageType::kInt8) {
    rows.key_scales = fill({count, shape.layers, shape.kv_heads}, at::kFloat);
    rows.value_scales = fill({count, shape.layers, shape.kv_heads}, at::kFloat);
  }
  return rows;
}

nlohmann::json SourceStage::quantisation() const {
  const ManifestEntry* entry = impl_->manifest.find(stage_name(impl_->reading_shard));
  return entry != nullptr && entry->attributes.contains("quantisation")
             ? entry->attributes["quantisation"]
             : nlohmann::json();
}

void SourceStage::remove(int64_t shard) {
  file_ops::remove(impl_->folder / stage_name(shard));
  impl_->manifest.remove(stage_name(shard));
}

void SourceStage::finish() {
  if (!impl_->manifest.entries().empty()) return;
  file_ops::remove(impl_->manifest_path);
  std::error_code ignored;
  fs::remove(impl_->folder, ignored);  // only when empty: other ranks may still need it
}

}  // namespace kvlingua
