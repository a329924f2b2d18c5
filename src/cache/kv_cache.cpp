#include "kvlingua/cache/kv_cache.h"

#include <ATen/ATen.h>

#include <sstream>

#include "kvlingua/base/error.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

std::string sizes(const at::Tensor& t) {
  std::ostringstream out;
  if (t.defined()) {
    out << t.sizes();
  } else {
    out << "no tensor";
  }
  return out.str();
}

[[noreturn]] void misfit(const std::string& what, const std::string& got,
                         const std::string& expected) {
  throw Error({.code = ExitCode::kInput,
               .where = "KvCache",
               .what = what,
               .got = got,
               .expected = expected});
}

}  // namespace

KvCache::KvCache(at::Tensor keys, at::Tensor values, at::Tensor positions,
                 std::optional<RopeSpec> rope, at::Tensor mask)
    : keys_LBHTD_(std::move(keys)),
      values_LBHTD_(std::move(values)),
      positions_BT_(std::move(positions)),
      mask_BT_(std::move(mask)),
      rope_(std::move(rope)) {
  if (!keys_LBHTD_.defined() || keys_LBHTD_.dim() != 5) {
    misfit("keys have the wrong rank", sizes(keys_LBHTD_),
           "[layers, batch, kv_heads, tokens, head_dim]");
  }
  if (!values_LBHTD_.defined() || values_LBHTD_.sizes() != keys_LBHTD_.sizes()) {
    misfit("values do not fit the keys", sizes(values_LBHTD_), sizes(keys_LBHTD_));
  }
  const std::vector<int64_t> expected{batch(), tokens()};
  if (!positions_BT_.defined() || positions_BT_.sizes() != at::IntArrayRef(expected) ||
      positions_BT_.scalar_type() != at::kLong) {
    misfit("positions do not fit the keys", sizes(positions_BT_),
           cat("int64 [", expected[0], ", ", expected[1], "]"));
  }
  if (mask_BT_.defined() &&
      (mask_BT_.sizes() != at::IntArrayRef(expected) || mask_BT_.scalar_type() != at::kBool)) {
    misfit("mask does not fit the keys", sizes(mask_BT_),
           cat("bool [", expected[0], ", ", expected[1], "]"));
  }
  if (rope_ && rope_->head_dim != head_dim()) {
    misfit("the rotation is for another head_dim", cat(rope_->head_dim), cat(head_dim()));
  }
}

KvShape KvCache::shape() const { return {layers(), kv_heads(), head_dim()}; }

KvCache KvCache::unrotated() const {
  if (!rope_) return *this;
  const RopeTables tables = rope_tables(*rope_, positions_BT_);
  return KvCache(rope_unrotate(keys_LBHTD_, tables, *rope_), values_LBHTD_, positions_BT_,
                 std::nullopt, mask_BT_);
}

KvCache KvCache::rotated_to(const RopeSpec& rope, const at::Tensor& positions_BT) const {
  if (rope.head_dim != head_dim()) {
    misfit("the rotation asked for is for another head_dim", cat(rope.head_dim), cat(head_dim()));
  }
  const at::Tensor positions =
      positions_BT.to(positions_BT_.device()).expand({batch(), tokens()}).contiguous();
  const RopeTables tables = rope_tables(rope, positions);
  return KvCache(rope_rotate(unrotated().keys(), tables), values_LBHTD_, positions, rope, mask_BT_);
}

KvCache KvCache::relabelled(const at::Tensor& positions_BT) const {
  return KvCache(keys_LBHTD_, values_LBHTD_,
                 positions_BT.to(positions_BT_.device()).expand({batch(), tokens()}).contiguous(),
                 rope_, mask_BT_);
}

KvCache KvCache::slice(int64_t begin, int64_t end) const {
  if (begin < 0 || end < begin || end > tokens()) {
    misfit("slice is outside the cache", cat("[", begin, ", ", end, ")"),
           cat("within [0, ", tokens(), ")"));
  }
  const int64_t n = end - begin;
  return KvCache(keys_LBHTD_.narrow(3, begin, n), values_LBHTD_.narrow(3, begin, n),
                 positions_BT_.narrow(1, begin, n), rope_,
                 mask_BT_.defined() ? mask_BT_.narrow(1, begin, n) : at::Tensor());
}

KvCache KvCache::select_batch(const at::Tensor& indices) const {
  const at::Tensor at_device = indices.to(keys_LBHTD_.device());
  return KvCache(keys_LBHTD_.index_select(1, at_device), values_LBHTD_.index_select(1, at_device),
                 positions_BT_.index_select(0, at_device), rope_,
                 mask_BT_.defined() ? mask_BT_.index_select(0, at_device) : at::Tensor());
}

KvCache KvCache::select_tokens(const at::Tensor& indices) const {
  const at::Tensor at_device = indices.to(keys_LBHTD_.device());
  return KvCache(keys_LBHTD_.index_select(3, at_device), values_LBHTD_.index_select(3, at_device),
                 positions_BT_.index_select(1, at_device), rope_,
                 mask_BT_.defined() ? mask_BT_.index_select(1, at_device) : at::Tensor());
}

KvCache KvCache::to(at::Device device, at::ScalarType dtype) const {
  return KvCache(keys_LBHTD_.to(device, dtype), values_LBHTD_.to(device, dtype),
                 positions_BT_.to(device), rope_,
                 mask_BT_.defined() ? mask_BT_.to(device) : at::Tensor());
}

KvCache KvCache::clone() const {
  return KvCache(keys_LBHTD_.clone(), values_LBHTD_.clone(), positions_BT_.clone(), rope_,
                 mask_BT_.defined() ? mask_BT_.clone() : at::Tensor());
}

KvCache KvCache::detach() const {
  return KvCache(keys_LBHTD_.detach(), values_LBHTD_.detach(), positions_BT_, rope_, mask_BT_);
}

KvCache KvCache::concat(const KvCache& first, const KvCache& second) {
  if (!first.keys_LBHTD_.defined()) return second;
  if (!second.keys_LBHTD_.defined()) return first;
  if (first.shape() != second.shape())
    misfit("caches of two shapes", second.shape().describe(), first.shape().describe());
  if (first.rope_ != second.rope_) {
    misfit("caches that carry different rotations",
           second.rope_ ? to_string(second.rope_->type) : "none",
           first.rope_ ? to_string(first.rope_->type) : "none");
  }
  if (first.batch() != second.batch())
    misfit("batches differ", cat(second.batch()), cat(first.batch()));
  at::Tensor mask;
  if (first.mask_BT_.defined() || second.mask_BT_.defined()) {
    const auto mask_of = [](const KvCache& c) {
      return c.mask_BT_.defined() ? c.mask_BT_ : at::ones_like(c.positions_BT_, at::kBool);
    };
    mask = at::cat({mask_of(first), mask_of(second)}, 1);
  }
  return KvCache(at::cat({first.keys_LBHTD_, second.keys_LBHTD_}, 3),
                 at::cat({first.values_LBHTD_, second.values_LBHTD_}, 3),
                 at::cat({first.positions_BT_, second.positions_BT_}, 1), first.rope_, mask);
}

KvCache KvCache::stack_batch(const std::vector<KvCache>& caches) {
  if (caches.empty()) return {};
  std::vector<at::Tensor> keys, values, positions, masks;
  bool padded = false;
  for (const KvCache& c : caches) {
    if (c.shape() != caches[0].shape() || c.tokens() != caches[0].tokens() ||
        c.rope_ != caches[0].rope_) {
      misfit("caches cannot be stacked", cat(c.shape().describe(), ", ", c.tokens(), " tokens"),
             cat(caches[0].shape().describe(), ", ", caches[0].tokens(), " tokens, same rotation"));
    }
    padded = padded || c.mask_BT_.defined();
  }
  for (const KvCache& c : caches) {
    keys.push_back(c.keys_LBHTD_);
    values.push_back(c.values_LBHTD_);
    positions.push_back(c.positions_BT_);
    if (padded)
      masks.push_back(c.mask_BT_.defined() ? c.mask_BT_
                                           : at::ones_like(c.positions_BT_, at::kBool));
  }
  return KvCache(at::cat(keys, 1), at::cat(values, 1), at::cat(positions, 0), caches[0].rope_,
                 padded ? at::cat(masks, 0) : at::Tensor());
}

int64_t KvCache::bytes() const {
  return keys_LBHTD_.defined()
             ? 2 * keys_LBHTD_.numel() * static_cast<int64_t>(keys_LBHTD_.element_size())
             : 0;
}

int64_t KvCache::bytes_per_token() const {
  return shape().bytes_per_token(static_cast<int64_t>(keys_LBHTD_.element_size()));
}

std::string KvCache::fingerprint() const {
  Sha256 hash;
  hash.update(cat(shape().describe(), "; ", batch(), " x ", tokens(), "; ",
                  at::toString(keys_LBHTD_.scalar_type()), "; "));
  if (rope_) {
    std::ostringstream rope;
    rope.precision(17);
    rope << to_string(rope_->type) << ' ' << rope_->head_dim << ' ' << rope_->theta << ' '
         << rope_->factor << ' ' << rope_->low_freq_factor << ' ' << rope_->high_freq_factor << ' '
         << rope_->original_max_position << ' ' << rope_->beta_fast << ' ' << rope_->beta_slow
         << ' ' << rope_->attention_factor << ' ' << rope_->truncate;
    hash.update(rope.str());
  }
  const auto add = [&](const at::Tensor& t) {
    if (!t.defined()) return;
    const at::Tensor flat = t.to(at::kCPU).contiguous();
    hash.update(flat.const_data_ptr(), flat.numel() * flat.element_size());
  };
  add(positions_BT_);
  add(mask_BT_);
  add(keys_LBHTD_);
  add(values_LBHTD_);
  return hash.hex();
}

}  // namespace kvlingua
