#include "batch.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <limits>

#include "kvlingua/base/error.h"
#include "kvlingua/kernels/attention.h"

namespace kvlingua {
namespace {

[[noreturn]] void bad_batch(std::string what, std::string got, std::string expected,
                            std::string remedy = {}) {
  throw Error({.code = ExitCode::kInput,
               .where = "token batch",
               .what = std::move(what),
               .got = std::move(got),
               .expected = std::move(expected),
               .remedy = std::move(remedy)});
}

void check_shape(const at::Tensor& t, const char* name, at::IntArrayRef expected,
                 at::ScalarType type) {
  if (t.sizes() != expected || t.scalar_type() != type) {
    bad_batch(cat(name, " do not fit"), cat(at::toString(t.scalar_type()), " ", t.sizes()),
              cat(at::toString(type), " ", expected));
  }
}

// True when every row is real tokens first and padding after them. Only looked at on the CPU: it
// costs nothing there, and a device would have to be waited for.
bool padded_right(const at::Tensor& mask_BT) {
  if (!mask_BT.is_cpu() || mask_BT.size(1) < 2) return false;
  const int64_t n = mask_BT.size(1);
  return !at::logical_and(mask_BT.narrow(1, 1, n - 1), mask_BT.narrow(1, 0, n - 1).logical_not())
              .any()
              .item<bool>();
}

void check_ids(const at::Tensor& ids, int64_t vocab) {
  if (!ids.is_cpu()) return;  // on a device the embedding itself traps
  const auto [least, most] = at::aminmax(ids);
  const int64_t low = least.item<int64_t>(), high = most.item<int64_t>();
  if (low < 0 || high >= vocab)
    bad_batch("token id outside the vocabulary", cat(low < 0 ? low : high),
              cat("0 to ", vocab - 1));
}

// The position the first new token of each row takes, [rows, 1].
at::Tensor next_positions(const PastFrame& past, int64_t rows) {
  if (past.next != nullptr) return at::tensor(*past.next, at::kLong).unsqueeze(1);
  if (past.tokens == 0) return at::zeros({rows, 1}, at::kLong);
  at::Tensor positions = past.positions_BT;
  if (past.mask_BT.defined()) positions = positions.masked_fill(past.mask_BT.logical_not(), -1);
  return std::get<0>(positions.max(1, true)) + 1;
}

// Index of each row's last real token, [rows].
at::Tensor last_real(const at::Tensor& mask, int64_t rows, int64_t tokens,
                     const at::TensorOptions& options) {
  if (!mask.defined()) return at::full({rows}, tokens - 1, options.dtype(at::kLong));
  return (mask.to(at::kLong) * at::arange(1, tokens + 1, mask.options().dtype(at::kLong)))
      .argmax(1);
}

// Everything of a batch that the device needs, in one copy: [rows, 3 * tokens + 1] of ids,
// positions, mask and last.
void upload(PreparedBatch& out, const at::Tensor& ids, const at::Tensor& positions,
            const at::Tensor& mask, const at::Tensor& last, at::Device device) {
  if (!device.is_cuda() || !ids.is_cpu() || !positions.is_cpu()) {
    out.ids_BT = ids.to(device);
    out.positions_BT = positions.to(device).contiguous();
    out.mask_BT = mask.defined() ? mask.to(device) : mask;
    out.last_B = last.to(device);
    return;
  }
  const int64_t rows = out.rows, tokens = out.tokens, count = rows * tokens;
  const int64_t parts = mask.defined() ? 3 : 2;
  const at::Tensor host =
      at::empty({parts * count + rows}, at::TensorOptions().dtype(at::kLong).pinned_memory(true));
  const auto part = [&](const at::Tensor& from, int64_t i) {
    return from.narrow(0, i * count, count).view({rows, tokens});
  };
  part(host, 0).copy_(ids);
  part(host, 1).copy_(positions.expand({rows, tokens}));
  if (mask.defined()) part(host, 2).copy_(mask);
  host.narrow(0, parts * count, rows).copy_(last);
  const at::Tensor there = host.to(device, at::kLong, /*non_blocking=*/true);
  out.ids_BT = part(there, 0);
  out.positions_BT = part(there, 1);
  if (mask.defined()) out.mask_BT = part(there, 2).to(at::kBool);
  out.last_B = there.narrow(0, parts * count, rows);
}

// Undefined where every token is real.
at::Tensor mask_of(const TokenBatch& batch) {
  at::Tensor mask = batch.mask_BT;
  if (!mask.defined()) return mask;
  check_shape(mask, "mask", batch.ids_BT.sizes().vec(), at::kBool);
  if (!mask.is_cpu()) return mask;
  if (mask.all().item<bool>()) return {};
  if (!mask.any(1).all().item<bool>())
    bad_batch("a row without a real token", "padding only", "at least one real token a row");
  return mask;
}

// [rows or 1, tokens], those that the batch names or those that follow the past's. They are made
// and checked where the batch is: on the CPU as a rule.
at::Tensor positions_of(const TokenBatch& batch, const at::Tensor& mask, const PastFrame& past,
                        int64_t limit) {
  const int64_t rows = batch.ids_BT.size(0), tokens = batch.ids_BT.size(1);
  at::Tensor positions = batch.positions_BT;
  if (positions.defined()) {
    check_shape(positions, "positions", {rows, tokens}, at::kLong);
  } else {
    const at::Tensor start = next_positions(past, rows).to(batch.ids_BT.device());
    const at::Tensor index = mask.defined()
                                 ? (mask.to(at::kLong).cumsum(1) - 1).clamp_min_(0)
                                 : at::arange(tokens, batch.ids_BT.options()).unsqueeze(0);
    positions = start + index;
  }
  const auto [least, most] = at::aminmax(positions);
  const auto low = least.item<int64_t>(), high = most.item<int64_t>();
  if (low < 0 || high >= limit)
    bad_batch("positions run past the model's", cat("position ", low < 0 ? low : high),
              cat("0 to ", limit - 1), "shorten the prompt");
  return positions;
}

}  // namespace

at::Tensor attention_mask(const at::Tensor& past_mask, const at::Tensor& new_mask,
                          int64_t past_tokens, int64_t tokens, at::Device device,
                          at::ScalarType dtype) {
  const int64_t keys = past_tokens + tokens;
  const auto on_device = at::TensorOptions().device(device).dtype(at::kLong);
  const at::Tensor query = at::arange(past_tokens, keys, on_device).unsqueeze(1);
  const at::Tensor key = at::arange(keys, on_device).unsqueeze(0);
  at::Tensor visible = (key <= query).unsqueeze(0);  // [1, T, S + T]
  if (past_mask.defined() || new_mask.defined()) {
    const int64_t rows = (past_mask.defined() ? past_mask : new_mask).size(0);
    const auto real = [&](const at::Tensor& mask, int64_t n) {
      return mask.defined()
                 ? mask.to(device)
                 : at::ones({rows, n}, at::TensorOptions().device(device).dtype(at::kBool));
    };
    const at::Tensor real_keys = at::cat({real(past_mask, past_tokens), real(new_mask, tokens)}, 1);
    visible = at::logical_or(at::logical_and(visible, real_keys.unsqueeze(1)), key == query);
  }
  // Rows begin where the attention kernels want them (kernels/attention.h).
  auto size = visible.sizes().vec();
  size.back() = (keys + kMaskAlignment - 1) / kMaskAlignment * kMaskAlignment;
  const at::Tensor mask =
      at::zeros(size, at::TensorOptions().device(device).dtype(dtype)).narrow(-1, 0, keys);
  mask.masked_fill_(visible.logical_not(), -std::numeric_limits<double>::infinity());
  return mask.unsqueeze(1);
}

PreparedBatch prepare_batch(const TokenBatch& batch, const PastFrame& past,
                            const ModelConfig& config, at::Device device, at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  PreparedBatch out;
  if (!batch.ids_BT.defined() || batch.ids_BT.dim() != 2 || batch.ids_BT.numel() == 0) {
    bad_batch("no tokens", batch.ids_BT.defined() ? cat(batch.ids_BT.sizes()) : "no tensor",
              "int64 [rows, tokens], both at least 1");
  }
  const int64_t rows = out.rows = batch.ids_BT.size(0), tokens = out.tokens = batch.ids_BT.size(1);
  check_shape(batch.ids_BT, "ids", {rows, tokens}, at::kLong);
  check_ids(batch.ids_BT, config.vocab_size);
  if (past.tokens > 0 && past.positions_BT.size(0) != rows) {
    bad_batch("rows differ from the cache before it", cat(rows), cat(past.positions_BT.size(0)));
  }
  const at::Tensor mask = mask_of(batch);
  const at::Tensor positions = positions_of(batch, mask, past, config.max_position_embeddings);

  const bool shared_positions =
      rows > 1 && positions.is_cpu() && (positions == positions.narrow(0, 0, 1)).all().item<bool>();
  upload(out, batch.ids_BT, positions, mask, last_real(mask, rows, tokens, batch.ids_BT.options()),
         device);
  out.frame.tables = rope_tables(
      config.rope, shared_positions ? out.positions_BT.narrow(0, 0, 1) : out.positions_BT);
  out.frame.tables.cos = out.frame.tables.cos.contiguous();
  out.frame.tables.sin = out.frame.tables.sin.contiguous();

  const bool no_past = past.tokens == 0;
  if (no_past && (!mask.defined() || padded_right(mask))) {
    out.frame.is_causal = true;  // padding behind the real tokens is never seen by them
  } else if (tokens > 1 || mask.defined() || past.mask_BT.defined()) {
    out.frame.mask = attention_mask(no_past ? at::Tensor() : past.mask_BT, out.mask_BT, past.tokens,
                                    tokens, device, dtype);
  }
  return out;
}

TokenBatch TokenBatch::from_rows(const std::vector<std::vector<int64_t>>& rows, bool pad_left,
                                 int64_t pad_id) {
  int64_t longest = 0;
  bool padded = false;
  for (const auto& row : rows) longest = std::max(longest, static_cast<int64_t>(row.size()));
  for (const auto& row : rows) padded = padded || static_cast<int64_t>(row.size()) != longest;
  TokenBatch batch;
  batch.ids_BT = at::full({static_cast<int64_t>(rows.size()), longest}, pad_id, at::kLong);
  if (padded) batch.mask_BT = at::zeros(batch.ids_BT.sizes(), at::kBool);
  for (size_t r = 0; r < rows.size(); ++r) {
    const int64_t n = static_cast<int64_t>(rows[r].size());
    const int64_t begin = static_cast<int64_t>(r) * longest + (pad_left ? longest - n : 0);
    std::copy(rows[r].begin(), rows[r].end(), batch.ids_BT.data_ptr<int64_t>() + begin);
    if (padded) std::fill_n(batch.mask_BT.data_ptr<bool>() + begin, n, true);
  }
  return batch;
}

}  // namespace kvlingua
