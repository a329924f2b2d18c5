#include "kvlingua/model/decode_session.h"

#include <ATen/ATen.h>
#include <ATen/TensorIndexing.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>

#include "causal_lm_impl.h"
#include "kvlingua/base/error.h"
#include "kvlingua/kernels/attention.h"

namespace kvlingua {
namespace {

constexpr int64_t kLeastRoom = 64;
const double kHidden = -std::numeric_limits<double>::infinity();

// A small tensor of the host's to the device, from pinned memory: nobody waits for it.
at::Tensor to_device(const at::Tensor& t, at::Device device) {
  if (!device.is_cuda() || !t.is_cpu()) return t.to(device);
  return t.pin_memory().to(device, t.scalar_type(), /*non_blocking=*/true);
}

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
    hide_padding(0, past.mask());
    positions = positions.masked_fill(past.mask().logical_not(), -1);
  }
  const at::Tensor next = (std::get<0>(positions.max(1)) + 1).to(at::kCPU).contiguous();
  next_.assign(next.const_data_ptr<int64_t>(), next.const_data_ptr<int64_t>() + rows_);
}

DecodeSession::DecodeSession(const CausalLM& model,
                             const std::vector<std::vector<const KvCache*>>& pasts,
                             std::vector<int64_t> next, int64_t room)
    : model_(&model), rows_(static_cast<int64_t>(pasts.size())), next_(std::move(next)) {
  const at::NoGradGuard no_grad;
  if (rows_ == 0 || next_.size() != pasts.size()) {
    throw Error({.code = ExitCode::kInput,
                 .where = "decode session",
                 .what = "rows and positions do not fit",
                 .got = cat(rows_, " rows, ", next_.size(), " positions"),
                 .expected = "at least one row, a position each"});
  }
  // Where each cached token goes: its row and its column.
  std::vector<at::Tensor> keys, values, positions;
  std::vector<int64_t> lengths, rows, columns;
  for (size_t r = 0; r < pasts.size(); ++r) {
    int64_t length = 0;
    for (const KvCache* part : pasts[r]) {
      if (part == nullptr || part->empty()) continue;
      check_past(*part, model.config());
      keys.push_back(part->keys().to(model.device(), model.dtype()));
      values.push_back(part->values().to(model.device(), model.dtype()));
      positions.push_back(part->positions().to(model.device()));
      for (int64_t t = 0; t < part->tokens(); ++t) {
        rows.push_back(static_cast<int64_t>(r));
        columns.push_back(length + t);
      }
      length += part->tokens();
    }
    lengths.push_back(length);
  }
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  reserve(longest + std::max(room, kLeastRoom));
  length_ = longest;
  if (keys.empty()) return;
  const auto n = static_cast<int64_t>(rows.size());
  rows.insert(rows.end(), columns.begin(), columns.end());
  const at::Tensor place = to_device(at::tensor(rows, at::kLong), model.device()).view({2, n});
  const at::Tensor row = place[0], column = place[1];
  // Padding must be finite: attention multiplies it by zero.
  keys_.narrow(3, 0, length_).zero_();
  values_.narrow(3, 0, length_).zero_();
  const at::indexing::TensorIndex all = at::indexing::Slice();
  const auto put = [&](at::Tensor into, const std::vector<at::Tensor>& parts) {
    // [L, 1, H, N, D] -> [N, L, H, D], as indices apart from each other want it
    into.index_put_({all, row, all, column}, at::cat(parts, 3).select(1, 0).permute({2, 0, 1, 3}));
  };
  put(keys_, keys);
  put(values_, values);
  positions_.index_put_({row, column}, at::cat(positions, 1).select(0, 0));
  const bool padded = std::any_of(lengths.begin(), lengths.end(),
                                  [&](int64_t length) { return length != longest; });
  if (!padded) return;
  at::Tensor real = at::zeros({rows_, longest}, mask_options());
  real.index_put_({row, column}, at::ones({}, mask_options()));
  hide_padding(0, real);
}

at::TensorOptions DecodeSession::mask_options() const {
  return at::TensorOptions().device(model_->device()).dtype(at::kBool);
}

void DecodeSession::reserve(int64_t capacity) {
  if (keys_.defined() && keys_.size(3) >= capacity) return;
  const at::NoGradGuard no_grad;
  const ModelConfig& config = model_->config();
  int64_t size = keys_.defined() ? std::max(capacity, 2 * keys_.size(3)) : capacity;
  size = (size + kMaskAlignment - 1) / kMaskAlignment * kMaskAlignment;  // of step_mask_'s rows
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

// Columns from `begin` on, mask_BT [rows, T]: what is not real is never seen.
void DecodeSession::hide_padding(int64_t begin, const at::Tensor& mask_BT) {
  ensure_mask();
  const int64_t tokens = mask_BT.size(1);
  mask_.narrow(1, begin, tokens).copy_(mask_BT);
  step_mask_.narrow(3, begin, tokens)
      .masked_fill_(mask_BT.logical_not().view({rows_, 1, 1, tokens}), kHidden);
}

at::Tensor DecodeSession::run(const PreparedBatch& batch, LogitsAt wanted) {
  const CausalLM::Impl& model = *model_->impl_;
  const int64_t total = length_ + batch.tokens;
  const auto joint = [&](int64_t layer) -> JointKv {
    return {keys_[layer].narrow(2, 0, total), values_[layer].narrow(2, 0, total)};
  };
  Captured nothing;
  const Rows rows = wanted == LogitsAt::kNone   ? Rows::kNone
                    : wanted == LogitsAt::kLast ? Rows::kLast
                                                : Rows::kAll;
  const at::Tensor hidden = run_frozen(
      model.frozen_model(), batch, rows, joint, [](int64_t) {}, nothing);
  positions_.narrow(1, length_, batch.tokens).copy_(batch.positions_BT);
  length_ = total;
  if (wanted == LogitsAt::kNone) return {};
  return wanted == LogitsAt::kLast ? hidden.reshape({batch.rows, -1}) : hidden;
}

at::Tensor DecodeSession::append(const TokenBatch& batch, LogitsAt logits) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = read(batch, logits);
  return rows.defined() ? model_->head(rows) : rows;
}

at::Tensor DecodeSession::append_hidden(const TokenBatch& batch) {
  return read(batch, LogitsAt::kLast);
}

at::Tensor DecodeSession::read(const TokenBatch& batch, LogitsAt wanted) {
  const at::NoGradGuard no_grad;
  if (wanted == LogitsAt::kPositions) {
    throw Error({.code = ExitCode::kInput,
                 .where = "decode session",
                 .what = "logits at positions are prefill()'s"});
  }
  const int64_t before = length_;
  const PastFrame past{before, positions_.narrow(1, 0, before),
                       mask_.defined() ? mask_.narrow(1, 0, before) : at::Tensor(), &next_};
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
  if (prepared.mask_BT.defined()) hide_padding(before, prepared.mask_BT);
  const at::Tensor result = run(prepared, wanted);
  next_B_.reset();
  next_ = following(batch, prepared);
  return result;
}

// The position after each row's last real token; from the host's own copy where it has one.
std::vector<int64_t> DecodeSession::following(const TokenBatch& batch,
                                              const PreparedBatch& prepared) const {
  if (!batch.positions_BT.defined() && batch.ids_BT.is_cpu() &&
      (!batch.mask_BT.defined() || batch.mask_BT.is_cpu())) {
    std::vector<int64_t> next = next_;
    const at::Tensor real = batch.mask_BT.defined() ? batch.mask_BT.sum(1) : at::Tensor();
    for (size_t r = 0; r < next.size(); ++r)
      next[r] += real.defined() ? real.const_data_ptr<int64_t>()[r] : prepared.tokens;
    return next;
  }
  const bool host = batch.positions_BT.defined() && batch.positions_BT.is_cpu() &&
                    (!batch.mask_BT.defined() || batch.mask_BT.is_cpu());
  at::Tensor positions = host ? batch.positions_BT : prepared.positions_BT, last;
  if (host && batch.mask_BT.defined()) {
    const at::Tensor index = at::arange(1, prepared.tokens + 1, at::kLong);
    last = (batch.mask_BT.to(at::kLong) * index).argmax(1);
  } else if (host) {
    last = at::full({rows_}, prepared.tokens - 1, at::kLong);
  } else {
    last = prepared.last_B;
  }
  const at::Tensor at_last =
      positions.gather(1, last.unsqueeze(1)).to(at::kCPU).add(1).contiguous();
  return {at_last.const_data_ptr<int64_t>(), at_last.const_data_ptr<int64_t>() + rows_};
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
  batch.ids_BT = to_device(ids_B, model_->device()).unsqueeze(1);
  if (!next_B_.defined()) next_B_ = to_device(at::tensor(next_, at::kLong), model_->device());
  batch.positions_BT = next_B_.unsqueeze(1);
  if (std::all_of(next_.begin(), next_.end(), [&](int64_t p) { return p == next_[0]; })) {
    batch.frame.tables = {tables_.cos.narrow(0, next_[0], 1), tables_.sin.narrow(0, next_[0], 1)};
  } else {
    const at::Tensor index = batch.positions_BT.squeeze(1);
    batch.frame.tables = {tables_.cos.index_select(0, index).unsqueeze(1),
                          tables_.sin.index_select(0, index).unsqueeze(1)};
  }
  if (step_mask_.defined()) batch.frame.mask = step_mask_.narrow(3, 0, length_ + 1);
  const at::Tensor result = model_->head(run(batch, LogitsAt::kLast));
  for (int64_t& position : next_) ++position;
  next_B_.add_(1);
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
  const at::Tensor index = to_device(at::tensor(indices, at::kLong), model_->device());
  keys_ = keys_.index_select(1, index);
  values_ = values_.index_select(1, index);
  positions_ = positions_.index_select(0, index);
  if (mask_.defined())
    mask_ = mask_.index_select(0, index), step_mask_ = step_mask_.index_select(0, index);
  next_ = std::move(next);
  next_B_.reset();
  rows_ = static_cast<int64_t>(indices.size());
}

KvCache DecodeSession::cache() const {
  return KvCache(keys_.narrow(3, 0, length_), values_.narrow(3, 0, length_),
                 positions_.narrow(1, 0, length_), model_->rope(),
                 mask_.defined() ? mask_.narrow(1, 0, length_) : at::Tensor());
}

}  // namespace kvlingua
