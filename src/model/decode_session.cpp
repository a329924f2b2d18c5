#include "kvlingua/model/decode_session.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>

#include "causal_lm_impl.h"
#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

constexpr int64_t kLeastRoom = 64;
const double kHidden = -std::numeric_limits<double>::infinity();

}  // namespace

DecodeSession::DecodeSession(const CausalLM& model, int64_t rows, int64_t room)
    : model_(&model), rows_(rows), next_(static_cast<size_t>(rows), 0) {
  if (rows <= 0) {
    throw Error({.code = ExitCode::kInput,
                 .where = "decode session",
                 .what = "no rows",
                 .got = cat(rows),
                 .expected = "at least 1"});
  }
  reserve(std::max(room, kLeastRoom));
}

DecodeSession::DecodeSession(const CausalLM& model, const KvCache& past, int64_t room)
    : DecodeSession(model, past.batch(), past.tokens() + std::max(room, kLeastRoom)) {
  const at::NoGradGuard no_grad;
  check_past(past, model.config());
  length_ = past.tokens();
  if (length_ == 0) return;
  keys_.narrow(3, 0, length_).copy_(past.keys());
  values_.narrow(3, 0, length_).copy_(past.values());
  positions_.narrow(1, 0, length_).copy_(past.positions());
  at::Tensor positions = past.positions();
  if (past.mask().defined()) {
    ensure_mask();
    mask_.narrow(1, 0, length_).copy_(past.mask());
    step_mask_.narrow(3, 0, length_)
        .masked_fill_(mask_.narrow(1, 0, length_).logical_not().view({rows_, 1, 1, length_}),
                      kHidden);
    positions = positions.masked_fill(past.mask().logical_not(), -1);
  }
  const at::Tensor next = (std::get<0>(positions.max(1)) + 1).to(at::kCPU).contiguous();
  next_.assign(next.const_data_ptr<int64_t>(), next.const_data_ptr<int64_t>() + rows_);
}

void DecodeSession::reserve(int64_t capacity) {
  if (keys_.defined() && keys_.size(3) >= capacity) return;
  const at::NoGradGuard no_grad;
  const ModelConfig& config = model_->config();
  const int64_t size = keys_.defined() ? std::max(capacity, 2 * keys_.size(3)) : capacity;
  const auto floats = at::TensorOptions().device(model_->device()).dtype(model_->dtype());
  const auto grown = [&](const at::Tensor& old, at::Tensor fresh, int64_t dim) {
    if (old.defined()) fresh.narrow(dim, 0, length_).copy_(old.narrow(dim, 0, length_));
    return fresh;
  };
  const std::vector<int64_t> shape{config.num_layers, rows_, config.num_kv_heads, size,
                                   config.head_dim};
  keys_ = grown(keys_, at::empty(shape, floats), 3);
  values_ = grown(values_, at::empty(shape, floats), 3);
  positions_ = grown(positions_, at::zeros({rows_, size}, floats.dtype(at::kLong)), 1);
  if (mask_.defined()) {
    mask_ = grown(mask_, at::ones({rows_, size}, floats.dtype(at::kBool)), 1);
    step_mask_ = grown(step_mask_, at::zeros({rows_, 1, 1, size}, floats), 3);
  }
}

void DecodeSession::ensure_mask() {
  if (mask_.defined()) return;
  mask_ = at::ones({rows_, capacity()}, positions_.options().dtype(at::kBool));
  step_mask_ = at::zeros({rows_, 1, 1, capacity()}, keys_.options());
}

at::Tensor DecodeSession::run(const PreparedBatch& batch, LogitsAt logits) {
  const CausalLM::Impl& model = *model_->impl_;
  const int64_t total = length_ + batch.tokens;
  const auto joint = [&](int64_t layer) -> JointKv {
    return {keys_[layer].narrow(2, 0, total), values_[layer].narrow(2, 0, total)};
  };
  Captured nothing;
  const Rows rows = logits == LogitsAt::kNone   ? Rows::kNone
                    : logits == LogitsAt::kLast ? Rows::kLast
                                                : Rows::kAll;
  const at::Tensor hidden = run_frozen(
      model.frozen_model(), batch, rows, joint, [](int64_t) {}, nothing);
  positions_.narrow(1, length_, batch.tokens).copy_(batch.positions_BT);
  length_ = total;
  if (logits == LogitsAt::kNone) return {};
  return model.logits(logits == LogitsAt::kLast ? hidden.reshape({batch.rows, -1}) : hidden);
}

at::Tensor DecodeSession::append(const TokenBatch& batch, LogitsAt logits) {
  const at::NoGradGuard no_grad;
  if (logits == LogitsAt::kPositions) {
    throw Error({.code = ExitCode::kInput,
                 .where = "decode session",
                 .what = "logits at positions are prefill()'s"});
  }
  const int64_t before = length_;
  const PastFrame past{before, positions_.narrow(1, 0, before),
                       mask_.defined() ? mask_.narrow(1, 0, before) : at::Tensor()};
  const PreparedBatch prepared =
      prepare_batch(batch, past, model_->config(), model_->device(), model_->dtype());
  if (prepared.rows != rows_) {
    throw Error({.code = ExitCode::kInput,
                 .where = "token batch",
                 .what = "rows differ from the session's",
                 .got = cat(prepared.rows),
                 .expected = cat(rows_)});
  }
  reserve(before + prepared.tokens);
  if (prepared.mask_BT.defined()) {
    ensure_mask();
    mask_.narrow(1, before, prepared.tokens).copy_(prepared.mask_BT);
    step_mask_.narrow(3, before, prepared.tokens)
        .masked_fill_(prepared.mask_BT.logical_not().view({rows_, 1, 1, prepared.tokens}), kHidden);
  }
  const at::Tensor result = run(prepared, logits);
  const at::Tensor last =
      prepared.positions_BT.gather(1, prepared.last_B.unsqueeze(1)).to(at::kCPU).contiguous();
  for (int64_t r = 0; r < rows_; ++r)
    next_[static_cast<size_t>(r)] = last.const_data_ptr<int64_t>()[r] + 1;
  return result;
}

at::Tensor DecodeSession::step(const at::Tensor& ids_B) {
  const at::NoGradGuard no_grad;
  const ModelConfig& config = model_->config();
  if (!ids_B.defined() || ids_B.dim() != 1 || ids_B.size(0) != rows_ ||
      ids_B.scalar_type() != at::kLong) {
    throw Error({.code = ExitCode::kInput,
                 .where = "decode session",
                 .what = "ids do not fit the rows",
                 .got = ids_B.defined() ? cat(ids_B.sizes()) : "no tensor",
                 .expected = cat("int64 [", rows_, "]")});
  }
  const int64_t highest = *std::max_element(next_.begin(), next_.end());
  if (highest >= config.max_position_embeddings) {
    throw Error({.code = ExitCode::kInput,
                 .where = "decode session",
                 .what = "positions run past the model's",
                 .got = cat("position ", highest),
                 .expected = cat("0 to ", config.max_position_embeddings - 1),
                 .remedy = "shorten the prompt"});
  }
  reserve(length_ + 1);
  const auto longs = at::TensorOptions().device(model_->device()).dtype(at::kLong);
  if (!tables_.cos.defined() || tables_.cos.size(0) <= highest) {
    tables_ = rope_tables(config.rope, at::arange(std::min(std::max(highest + 1, 2 * length_),
                                                           config.max_position_embeddings),
                                                  longs));
  }
  PreparedBatch batch;
  batch.rows = rows_;
  batch.tokens = 1;
  batch.ids_BT = ids_B.to(model_->device()).unsqueeze(1);
  batch.positions_BT = at::tensor(next_, at::kLong).to(model_->device()).unsqueeze(1);
  if (std::all_of(next_.begin(), next_.end(), [&](int64_t p) { return p == next_[0]; })) {
    batch.frame.tables = {tables_.cos.narrow(0, next_[0], 1), tables_.sin.narrow(0, next_[0], 1)};
  } else {
    const at::Tensor index = batch.positions_BT.squeeze(1);
    batch.frame.tables = {tables_.cos.index_select(0, index).unsqueeze(1),
                          tables_.sin.index_select(0, index).unsqueeze(1)};
  }
  if (step_mask_.defined()) batch.frame.mask = step_mask_.narrow(3, 0, length_ + 1);
  const at::Tensor result = run(batch, LogitsAt::kLast);
  for (int64_t& position : next_) ++position;
  return result;
}

void DecodeSession::keep_rows(const std::vector<int64_t>& indices) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> next;
  for (const int64_t r : indices) {
    if (r < 0 || r >= rows_) {
      throw Error({.code = ExitCode::kInput,
                   .where = "decode session",
                   .what = "no such row",
                   .got = cat(r),
                   .expected = cat("0 to ", rows_ - 1)});
    }
    next.push_back(next_[static_cast<size_t>(r)]);
  }
  if (indices.empty()) {
    throw Error({.code = ExitCode::kInput,
                 .where = "decode session",
                 .what = "no rows left",
                 .expected = "at least 1"});
  }
  const at::Tensor index = at::tensor(indices, at::kLong).to(model_->device());
  keys_ = keys_.index_select(1, index);
  values_ = values_.index_select(1, index);
  positions_ = positions_.index_select(0, index);
  if (mask_.defined())
    mask_ = mask_.index_select(0, index), step_mask_ = step_mask_.index_select(0, index);
  next_ = std::move(next);
  rows_ = static_cast<int64_t>(indices.size());
}

KvCache DecodeSession::cache() const {
  return KvCache(keys_.narrow(3, 0, length_), values_.narrow(3, 0, length_),
                 positions_.narrow(1, 0, length_), model_->rope(),
                 mask_.defined() ? mask_.narrow(1, 0, length_) : at::Tensor());
}

}  // namespace kvlingua
