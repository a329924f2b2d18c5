#include "datasets/pairs/pair_reader.h"

#include <ATen/ATen.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>

#include "kvlingua/base/error.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

// Files this process has hashed, so that every stage of a run need not do it again: by name, with
// what changes when somebody writes to them.
class Hashed {
 public:
  struct Stamp {
    ino_t inode;
    off_t bytes;
    int64_t modified, changed;  // ns
    std::string sha256;
    bool operator==(const Stamp&) const = default;
  };
  static Hashed& instance() {
    static Hashed hashed;
    return hashed;
  }
  bool knows(const fs::path& path, const std::string& sha256) {
    const auto stamp = stamp_of(path, sha256);
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(path.string());
    return stamp && found != files_.end() && found->second == *stamp;
  }
  // `before`: its stamp when hashing began. A file that was written a moment ago could be written
  // again within the same tick of its clock, so it is not remembered.
  void remember(const fs::path& path, const std::optional<Stamp>& before) {
    constexpr int64_t kSecond = 1'000'000'000;
    if (!before || stamp_of(path, before->sha256) != before) return;
    timespec clock{};
    clock_gettime(CLOCK_REALTIME, &clock);
    const int64_t now = clock.tv_sec * kSecond + clock.tv_nsec;
    if (now - std::max(before->modified, before->changed) < kSecond) return;
    const std::lock_guard lock(mutex_);
    files_.insert_or_assign(path.string(), *before);
  }
  static std::optional<Stamp> stamp_of(const fs::path& path, const std::string& sha256) {
    struct stat s {};
    if (::stat(path.c_str(), &s) != 0) return std::nullopt;
    const auto ns = [](const timespec& t) { return t.tv_sec * 1'000'000'000LL + t.tv_nsec; };
    return Stamp{s.st_ino, s.st_size, ns(s.st_mtim), ns(s.st_ctim), sha256};
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Stamp> files_;
};

void verify_file(const fs::path& path, const ShardEntry& entry) {
  const auto damaged = [&](const std::string& what, const std::string& got,
                           const std::string& expected) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = path.string(),
                 .what = what,
                 .got = got,
                 .expected = expected,
                 .remedy = "delete the file and run generate again: it makes what is missing"});
  };
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  if (error) damaged("the shard is missing", error.message(), "");
  if (static_cast<int64_t>(bytes) != entry.bytes)
    damaged("the shard has another size", cat(bytes, " bytes"), cat(entry.bytes));
  if (Hashed::instance().knows(path, entry.sha256)) return;
  const auto before = Hashed::stamp_of(path, entry.sha256);
  const std::string hash = sha256_file(path);
  if (hash != entry.sha256)
    damaged("the shard's contents have changed", "sha256 " + hash, entry.sha256);
  Hashed::instance().remember(path, before);
}

// Rows [R, L, H, D] as a cache of batch 1.
KvCache as_cache(const StoredRows& rows, const std::vector<int32_t>& positions,
                 at::ScalarType dtype) {
  const auto arrange = [](const at::Tensor& rlhd) {
    return rlhd.permute({1, 2, 0, 3}).unsqueeze(1).contiguous();
  };
  const at::Tensor where =
      at::tensor(std::vector<int64_t>(positions.begin(), positions.end()), at::kLong).unsqueeze(0);
  return KvCache(arrange(decode_rows(rows.keys, rows.key_scales, dtype)),
                 arrange(decode_rows(rows.values, rows.value_scales, dtype)), where, std::nullopt);
}

}  // namespace

struct PairReader::Impl {
  fs::path directory;
  PairManifest manifest;
  std::vector<const ShardEntry*> entries;
  std::vector<int64_t> first;  // number of each shard's first sample
  int64_t samples = 0;
  std::mutex mutex;  // of what follows
  std::vector<std::unique_ptr<ShardFile>> open;
};

PairReader::PairReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PairReader::PairReader(PairReader&&) noexcept = default;
PairReader& PairReader::operator=(PairReader&&) noexcept = default;
PairReader::~PairReader() = default;

PairReader PairReader::open(const fs::path& directory, const PairReaderOptions& options) {
  auto manifest = load_pair_manifest(directory);
  if (!manifest) {
    throw Error({.code = ExitCode::kInput,
                 .where = directory.string(),
                 .what = "no pair set there",
                 .expected = cat("a folder with ", kManifestFile),
                 .remedy = "make one with kvlingua generate"});
  }
  if (!manifest->complete() && !options.allow_incomplete) {
    throw Error({.code = ExitCode::kInput,
                 .where = directory.string(),
                 .what = "the pair set is not finished",
                 .got = cat(manifest->shards.size(), " shards"),
                 .expected = cat(manifest->planned_shards),
                 .remedy = "run kvlingua generate again: it goes on where it stopped"});
  }
  auto impl = std::make_unique<Impl>();
  impl->directory = directory;
  impl->manifest = std::move(*manifest);
  for (const auto& [index, entry] : impl->manifest.shards) {
    impl->entries.push_back(&entry);
    impl->first.push_back(impl->samples);
    impl->samples += entry.samples;
  }
  impl->open.resize(impl->entries.size());
  return PairReader(std::move(impl));
}

const fs::path& PairReader::directory() const { return impl_->directory; }
const PairSetInfo& PairReader::info() const { return impl_->manifest.info; }
const PairManifest& PairReader::manifest() const { return impl_->manifest; }
int64_t PairReader::samples() const { return impl_->samples; }
int64_t PairReader::shards() const { return static_cast<int64_t>(impl_->entries.size()); }

const ShardFile& PairReader::shard(int64_t number) const {
  const auto i = static_cast<size_t>(number);
  const std::lock_guard lock(impl_->mutex);
  auto& slot = impl_->open.at(i);
  if (!slot) {
    const ShardEntry& entry = *impl_->entries[i];
    const fs::path path = impl_->directory / entry.file;
    verify_file(path, entry);
    auto file = std::make_unique<ShardFile>(path, info());
    // Samples are numbered through the set: a shard of another place or set is found here.
    const bool misplaced =
        file->number() != entry.index ||
        (impl_->manifest.complete() && entry.samples > 0 && file->index().samples() > 0 &&
         file->index().id.front() != impl_->first[i]);
    if (misplaced || file->index().samples() != entry.samples ||
        file->index().target_row_offsets.back() != entry.target_rows ||
        file->index().source_row_offsets.back() != entry.source_rows) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = path.string(),
                   .what = "the shard does not hold what the manifest says",
                   .got = cat(file->index().samples(), " samples, shard ", file->number()),
                   .expected = cat(entry.samples, " samples, shard ", entry.index)});
    }
    slot = std::move(file);
  }
  return *slot;
}

namespace {
std::pair<size_t, int64_t> find_sample(const std::vector<int64_t>& first, int64_t samples,
                                       int64_t i, const fs::path& directory) {
  if (i < 0 || i >= samples) {
    throw Error({.code = ExitCode::kUsage,
                 .where = directory.string(),
                 .what = "no such sample",
                 .got = cat(i),
                 .expected = cat("below ", samples)});
  }
  const auto shard =
      static_cast<size_t>(std::upper_bound(first.begin(), first.end(), i) - first.begin() - 1);
  return {shard, i - first[shard]};
}
}  // namespace

SampleRecord PairReader::record(int64_t i) const {
  const auto [number, local] = find_sample(impl_->first, samples(), i, directory());
  return shard(static_cast<int64_t>(number)).sample(local);
}

PairSample PairReader::sample(int64_t i, at::ScalarType dtype) const {
  const auto [number, local] = find_sample(impl_->first, samples(), i, directory());
  const ShardFile& file = shard(static_cast<int64_t>(number));
  const ShardIndex& x = file.index();
  const auto at = static_cast<size_t>(local);
  PairSample out;
  out.record = file.sample(local);
  out.source =
      as_cache(file.rows(Side::kSource, x.source_row_offsets[at], x.source_row_offsets[at + 1]),
               out.record.source.row_position, dtype);
  const int64_t begin = x.target_row_offsets[at], end = x.target_row_offsets[at + 1];
  out.target =
      as_cache(file.rows(Side::kTarget, begin, end), out.record.target.row_position, dtype);
  const auto arrange = [&](const at::Tensor& rlhd) {
    return rlhd.defined() ? rlhd.to(dtype).permute({1, 2, 0, 3}).unsqueeze(1).contiguous()
                          : at::Tensor();
  };
  out.target_queries = arrange(file.target_queries(begin, end));
  out.target_attention_outputs = arrange(file.target_attention_outputs(begin, end));
  return out;
}

}  // namespace kvlingua
