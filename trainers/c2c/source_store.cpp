#include "trainers/c2c/source_store.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <numeric>

#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/file_ops.h"
#include "kvlingua/io/system.h"

namespace kvlingua {
namespace {

constexpr int64_t kBlock = 8;  // items read together

// Its blocks now: a page of a mapping that the disk has no room for later is a bus error.
void reserve(const std::filesystem::path& file, uint64_t bytes) {
  const int fd = file_ops::open(file, O_RDWR | O_CREAT | O_TRUNC);
  if (fd < 0) file_ops::fail(file, "cannot be written", errno, bytes);
  const int error = bytes == 0 ? 0 : ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  ::close(fd);
  if (error == 0) return;
  std::error_code ignored;
  std::filesystem::remove(file, ignored);
  file_ops::fail(file, "no room for the source's caches", error, bytes);
}

int64_t numbers_per_token(const CausalLM& source) {
  const KvShape s = source.kv_shape();
  return 2 * s.layers * s.width();
}

int64_t tokens_read(const FusionItem& item, bool with_answer) {
  return with_answer ? item.tokens() : item.source_tokens();
}

// Where a sample's own tokens (its padding between templates included) stand in the padded row.
at::Tensor places(const FusionBatch& batch, const FusionItem& item, bool with_answer) {
  std::vector<int64_t> index;
  int64_t begin = 0;
  const FusionSample sample = item.sample();
  for (size_t k = 0, at = 0; k < sections_read(batch, with_answer); ++k) {
    size_t end = at;
    while (end < sample.selector.size() && sample.selector[end] == sample.selector[at]) ++end;
    const int64_t width = batch.sections[k].target.ids_BT.size(1);
    const int64_t n = std::min(static_cast<int64_t>(end - at), width);
    for (int64_t i = 0; i < n; ++i) index.push_back(begin + i);
    begin += width;
    at = end;
  }
  return at::tensor(index, at::kLong);
}

}  // namespace

SourceStore::Keep SourceStore::choose(const std::string& option, const CausalLM& source,
                                      const std::vector<FusionItem>& items, bool several_epochs,
                                      bool with_answer) {
  if (option == "none") return Keep::kNone;
  if (option == "memory") return Keep::kMemory;
  if (option == "disk") return Keep::kDisk;
  int64_t tokens = 0;
  for (const FusionItem& item : items) tokens += tokens_read(item, with_answer);
  const double bytes = static_cast<double>(tokens) *
                       static_cast<double>(numbers_per_token(source)) *
                       static_cast<double>(c10::elementSize(source.dtype()));
  return several_epochs && bytes <= static_cast<double>(total_memory_bytes()) / 4 ? Keep::kMemory
                                                                                  : Keep::kNone;
}

SourceStore::SourceStore(const CausalLM& source, const std::vector<FusionItem>& items, Keep keep,
                         std::filesystem::path file, bool with_answer)
    : source_(&source),
      items_(&items),
      keep_(keep),
      file_(std::move(file)),
      with_answer_(with_answer) {
  if (keep_ == Keep::kNone) return;
  order_.resize(items.size());
  place_.resize(items.size());
  std::iota(order_.begin(), order_.end(), 0);
  const auto key = [&](int64_t i) {
    const FusionItem& item = items[static_cast<size_t>(i)];
    return std::pair(item.pattern(), tokens_read(item, with_answer_));
  };
  std::stable_sort(order_.begin(), order_.end(),
                   [&](int64_t a, int64_t b) { return key(a) < key(b); });
  for (size_t p = 0; p < order_.size(); ++p)
    place_[static_cast<size_t>(order_[p])] = static_cast<int64_t>(p);
  offset_.assign(1, 0);
  for (const FusionItem& item : items)
    offset_.push_back(offset_.back() + tokens_read(item, with_answer_) * numbers_per_token(source));
  kept_.resize(items.size());
  if (keep_ == Keep::kDisk) {
    const uint64_t need = static_cast<uint64_t>(offset_.back()) * c10::elementSize(source.dtype());
    make_directories(file_.parent_path());
    if (need > free_disk_bytes(file_.parent_path())) {
      throw Error({.code = ExitCode::kDiskFull,
                   .where = file_.string(),
                   .what = "no room for the source's caches",
                   .got = cat(free_disk_bytes(file_.parent_path()), " bytes free"),
                   .expected = cat(need, " bytes"),
                   .remedy = "train.c2c.source_cache: none"});
    }
    std::filesystem::remove(file_);
    reserve(file_, need);
    mapped_ = at::from_file(file_.string(), /*shared=*/true, offset_.back(),
                            at::TensorOptions().dtype(source.dtype()));
    registered_ = std::make_unique<MappedFile>(mapped_.const_data_ptr(), mapped_.nbytes(),
                                               file_.string(), ExitCode::kDiskFull);
  }
}

SourceStore::~SourceStore() {
  if (keep_ != Keep::kDisk) return;
  std::error_code ignored;
  std::filesystem::remove(file_, ignored);
}

int64_t SourceStore::bytes() const {
  return keep_ == Keep::kNone
             ? 0
             : offset_.back() * static_cast<int64_t>(c10::elementSize(source_->dtype()));
}

at::Tensor SourceStore::room(int64_t item) const {
  const KvShape s = source_->kv_shape();
  const auto i = static_cast<size_t>(item);
  const std::vector<int64_t> size{2, s.layers, s.kv_heads, tokens_read((*items_)[i], with_answer_),
                                  s.head_dim};
  if (mapped_.defined())
    return mapped_.narrow(0, offset_[i], offset_[i + 1] - offset_[i]).view(size);
  return at::empty(size, at::TensorOptions().dtype(source_->dtype()));
}

void SourceStore::read_block(int64_t item) {
  const int64_t first = place_[static_cast<size_t>(item)] / kBlock * kBlock;
  const int64_t end = std::min(first + kBlock, static_cast<int64_t>(order_.size()));
  // A block may run over the end of a pattern: one batch a pattern.
  for (int64_t begin = first; begin < end;) {
    const auto at = [&](int64_t p) -> const FusionItem& {
      return (*items_)[static_cast<size_t>(order_[static_cast<size_t>(p)])];
    };
    int64_t stop = begin;
    std::vector<FusionSample> samples;
    while (stop < end && at(stop).pattern() == at(begin).pattern())
      samples.push_back(at(stop++).sample());
    const FusionBatch batch = collate_fusion(samples);
    const KvCache cache = read_source(*source_, batch, 0, with_answer_);
    for (int64_t p = begin; p < stop; ++p) {
      const int64_t i = order_[static_cast<size_t>(p)];
      const at::Tensor index = places(batch, at(p), with_answer_).to(cache.keys().device());
      const at::Tensor into = room(i);
      into.select(0, 0).copy_(cache.keys().select(1, p - begin).index_select(2, index));
      into.select(0, 1).copy_(cache.values().select(1, p - begin).index_select(2, index));
      kept_[static_cast<size_t>(i)] = into;
    }
    begin = stop;
  }
}

KvCache SourceStore::cache(const std::vector<int64_t>& items, const FusionBatch& batch) {
  if (keep_ == Keep::kNone) return read_source(*source_, batch, 0, with_answer_);
  const c10::NoGradGuard no_grad;
  int64_t width = 0;
  std::vector<at::Tensor> masks, positions;
  for (size_t k = 0; k < sections_read(batch, with_answer_); ++k) {
    const FusionSection& s = batch.sections[k];
    width += s.target.ids_BT.size(1);
    masks.push_back(s.source_masks.empty() ? s.target.mask_BT : s.source_masks[0]);
    positions.push_back(s.target.positions_BT);
  }
  const KvShape s = source_->kv_shape();
  const at::Tensor joint =
      at::zeros({2, s.layers, static_cast<int64_t>(items.size()), s.kv_heads, width, s.head_dim},
                at::TensorOptions().dtype(source_->dtype()));
  for (size_t row = 0; row < items.size(); ++row) {
    const auto i = static_cast<size_t>(items[row]);
    if (!kept_[i].defined()) read_block(items[row]);
    const at::Tensor index = places(batch, (*items_)[i], with_answer_);
    joint.select(2, static_cast<int64_t>(row))
        .index_copy_(3, index, kept_[i].narrow(3, 0, index.numel()));
  }
  const at::Tensor there = joint.to(source_->device());
  return KvCache(there.select(0, 0), there.select(0, 1),
                 at::cat(positions, 1).to(source_->device()), source_->rope(),
                 at::cat(masks, 1).to(source_->device()));
}

}  // namespace kvlingua
