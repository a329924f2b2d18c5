#include "eval/items/reader.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "kvlingua/base/error.h"

namespace kvlingua {

KvCache stack_padded(const std::vector<KvCache>& rows) {
  int64_t longest = 0;
  bool padded = false;
  const KvCache* first = nullptr;
  for (const KvCache& row : rows) {
    if (row.empty()) continue;
    if (first == nullptr) first = &row;
    longest = std::max(longest, row.tokens());
  }
  if (first == nullptr) return {};
  for (const KvCache& row : rows) padded = padded || row.empty() || row.tokens() != longest;
  if (!padded) return KvCache::stack_batch(rows);

  const auto n = static_cast<int64_t>(rows.size());
  const at::Tensor keys = at::zeros(
      {first->layers(), n, first->kv_heads(), longest, first->head_dim()}, first->keys().options());
  const at::Tensor values = at::zeros_like(keys);
  const at::Tensor positions = at::zeros({n, longest}, first->positions().options());
  const at::Tensor mask = at::zeros({n, longest}, first->positions().options().dtype(at::kBool));
  for (int64_t r = 0; r < n; ++r) {
    const KvCache& row = rows[static_cast<size_t>(r)];
    if (row.empty()) continue;
    if (row.shape() != first->shape() || row.rope() != first->rope())
      throw Error({.code = ExitCode::kInput,
                   .where = "cache",
                   .what = "caches cannot be stacked",
                   .got = row.shape().describe(),
                   .expected = first->shape().describe()});
    const int64_t length = row.tokens();
    keys.narrow(1, r, 1).narrow(3, 0, length).copy_(row.keys());
    values.narrow(1, r, 1).narrow(3, 0, length).copy_(row.values());
    positions.narrow(0, r, 1).narrow(1, 0, length).copy_(row.positions());
    mask.narrow(0, r, 1).narrow(1, 0, length).fill_(true);
  }
  return KvCache(keys, values, positions, first->rope(), mask);
}

std::vector<KvCache> read_rows(const CausalLM& model, const std::vector<std::vector<int64_t>>& rows,
                               int64_t batch_size, const KvCache* prefix, int64_t first) {
  const at::NoGradGuard no_grad;
  std::vector<KvCache> caches;
  in_batches(rows.size(), batch_size, [&](size_t begin, size_t end) {
    TokenBatch batch = TokenBatch::from_rows(
        {rows.begin() + static_cast<int64_t>(begin), rows.begin() + static_cast<int64_t>(end)});
    KvCache past;
    if (prefix != nullptr) past = repeat_rows(*prefix, static_cast<int64_t>(end - begin));
    if (first > 0)
      batch.positions_BT = (at::arange(batch.ids_BT.size(1), at::kLong) + first)
                               .expand_as(batch.ids_BT)
                               .contiguous();
    const KvCache read = model.prefill(batch, past.empty() ? nullptr : &past).cache;
    for (size_t row = begin; row < end; ++row) {
      // Lengths are known here: no need to ask a device for its mask.
      const auto r = static_cast<int64_t>(row - begin),
                 length = static_cast<int64_t>(rows[row].size());
      caches.emplace_back(read.keys().narrow(1, r, 1).narrow(3, 0, length).clone(),
                          read.values().narrow(1, r, 1).narrow(3, 0, length).clone(),
                          read.positions().narrow(0, r, 1).narrow(1, 0, length).clone(),
                          read.rope());
    }
  });
  return caches;
}

std::vector<KvCache> read_spans(const Reader& reader,
                                const std::vector<std::vector<int64_t>>& spans,
                                int64_t batch_size) {
  return read_rows(*reader.model, spans, batch_size, &reader.prefix);
}

}  // namespace kvlingua
