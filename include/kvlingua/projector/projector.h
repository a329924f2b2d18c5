// Projector: takes the cache of a source model to the cache a target model would have made of the
// same text.
//
// Two forms of the same map:
//   translate()       KvCache -> KvCache: un-rotates, aligns tokens, maps, rotates where the cache
//                     will stand. What evaluation and everything that injects use.
//   translate_rows()  rows -> rows: one row is one target token with the source token aligned to
//                     it, all layers side by side, keys un-rotated. What regression on stored pairs
//                     and distillation use, and what most kinds implement.
//
// Both are differentiable with respect to parameters() and to the inputs. A projector knows no
// model, only shapes.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvlingua/cache/kv_cache.h"
#include "kvlingua/cache/previous_tokens.h"

namespace kvlingua {

// One side of a set of rows: keys (un-rotated) and values, [rows, layers, kv_heads, head_dim] each.
struct CacheRows {
  at::Tensor keys_NLHD;
  at::Tensor values_NLHD;

  bool defined() const { return keys_NLHD.defined(); }
  int64_t rows() const { return keys_NLHD.defined() ? keys_NLHD.size(0) : 0; }
  KvShape shape() const;
  // Shares storage when nothing changes.
  CacheRows to(at::Device device, at::ScalarType dtype) const;
  CacheRows slice(int64_t begin, int64_t end) const;  // rows [begin, end); shares storage
};

// The rows of a cache, batch-major: row b * T + t. The cache must be un-rotated. `source_index_BT`
// ([batch, T] int64) picks the token of each row; undefined takes every token once. With previous
// tokens a row has more layers (previous_tokens.h), zeros where there is no such token (padding
// must stand behind).
CacheRows rows_of(const KvCache& unrotated, const at::Tensor& source_index_BT = {},
                  const PreviousTokens& previous = {});
// The inverse: [batch * T] rows as an un-rotated cache standing at positions_BT.
KvCache cache_of(const CacheRows& rows, const at::Tensor& positions_BT,
                 const at::Tensor& mask_BT = {});

struct TranslateInput {
  // What the source read: the span's tokens only, rotated or not.
  const KvCache& source;
  // [batch, T] int64: which source token (index into `source`) each target token takes. Undefined:
  // one to one.
  at::Tensor source_index_BT = {};
  // [batch, T] or [1, T] int64: where the translated tokens will stand. Undefined: 0..T-1.
  at::Tensor positions_BT = {};
  // The target's rotation; none leaves the result un-rotated.
  std::optional<RopeSpec> rope = {};
  // [batch, T] bool, false for padding. Undefined: the source's mask at source_index_BT.
  at::Tensor mask_BT = {};
  // The target's own cache of the same tokens; required by kinds that fuse() and ignored by the
  // others.
  const KvCache* own = nullptr;
  // One number per call for kinds that draw random numbers (noise): the same number gives the same
  // cache.
  uint64_t draw = 0;
};

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;
inline std::map<std::string, at::Tensor> by_name(const NamedTensors& tensors) {
  return {tensors.begin(), tensors.end()};
}

// How many numbers a kind trains, from shapes alone.
struct ParameterCount {
  int64_t map = 0;   // of a linear map that a stage may leave as it is
  int64_t over = 0;  // of what stands over it, or of all
  int64_t total() const { return map + over; }
  // With the map itself or without; a map with nothing over it is trained itself.
  int64_t trained(bool train_base) const { return train_base || over == 0 ? total() : over; }
};

class Projector {
 public:
  Projector(KvShape source, KvShape target) : source_shape_(source), target_shape_(target) {}
  virtual ~Projector() = default;
  Projector(const Projector&) = delete;
  Projector& operator=(const Projector&) = delete;

  virtual std::string kind() const = 0;  // as in recipes: "ridge"
  const KvShape& source_shape() const { return source_shape_; }
  const KvShape& target_shape() const { return target_shape_; }
  // Needs the target's own cache of the text, so the target must read it too.
  virtual bool fuses() const { return false; }
  // What each source row holds of the tokens before the aligned one: rows_of().
  virtual PreviousTokens previous_tokens() const { return {}; }
  KvShape source_row_shape() const { return row_shape(source_shape_, previous_tokens()); }

  // The target cache, in the source cache's dtype. Throws Error (kInput) naming both shapes when
  // the source does not fit.
  virtual KvCache translate(const TranslateInput& input) const;
  // float32 (or the weights' dtype if wider) rows of the target. `own` as in TranslateInput.
  virtual CacheRows translate_rows(const CacheRows& source, const CacheRows* own = nullptr,
                                   uint64_t draw = 0) const = 0;

  // What training changes. Leaves; the caller sets requires_grad.
  virtual NamedTensors parameters() const { return {}; }
  // What is stored beside them: statistics, layer choices.
  virtual NamedTensors buffers() const { return {}; }
  // parameters() and buffers() together: what a checkpoint holds.
  NamedTensors state() const;
  // Copies by name into the existing tensors. Throws Error (kInput) naming a tensor that is
  // missing, unknown or of another shape. `where` names the file.
  virtual void load_state(const std::map<std::string, at::Tensor>& tensors,
                          const std::string& where);
  // Everything make_projector() needs besides the tensors: kind, both shapes, options.
  virtual nlohmann::json config() const;

  // Moves the weights. Statistics stay float32; integer tensors keep their type.
  virtual void to(at::Device device, at::ScalarType dtype) = 0;
  virtual at::Device device() const = 0;

  void set_training(bool training) { training_ = training; }  // dropout, gate noise
  bool training() const { return training_; }
  int64_t parameter_count() const;

 protected:
  // Throws Error (kInput) naming both shapes.
  void check_source(const KvShape& got) const;
  void check_rows(const KvShape& got) const;  // of translate_rows()

 private:
  KvShape source_shape_, target_shape_;
  bool training_ = false;
};

}  // namespace kvlingua
