#include "kvlingua/bridge/reader.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "kvlingua/base/error.h"

namespace kvlingua {

Reader Reader::make(const CausalLM& model, TextReader text) {
  const int64_t entries = text.tokenizer->vocab_size(), known = model.config().vocab_size;
  if (entries > known && known > 0) {
    // Ids beyond the embedding would only fail in the middle of a run.
    throw Error({.code = ExitCode::kInput,
                 .where = "model",
                 .what = "tokenizer and model do not belong together",
                 .got = cat("a tokenizer of ", entries, " entries"),
                 .expected = cat("at most ", known)});
  }
  Reader reader{std::move(text)};
  reader.model = &model;
  if (!reader.before.empty()) {
    const at::NoGradGuard no_grad;
    reader.prefix = model.prefill(TokenBatch::from_rows({reader.before})).cache;
  }
  return reader;
}

Reader reader_of(const OpenModel& opened, const ModelOptions& options) {
  return Reader::make(opened.model,
                      TextReader::of(opened.tokenizer(), options, opened.model.config()));
}

KvCache repeat_rows(const KvCache& cache, int64_t count) {
  if (cache.empty()) return cache;
  auto size = cache.keys().sizes().vec();
  size[1] = count;
  return KvCache(cache.keys().expand(size), cache.values().expand(size),
                 cache.positions().expand({count, cache.tokens()}).contiguous(), cache.rope(),
                 cache.mask().defined() ? cache.mask().expand({count, cache.tokens()}).contiguous()
                                        : at::Tensor());
}

TokenBatch rows_at(const std::vector<std::vector<int64_t>>& rows,
                   const std::vector<int64_t>& first_positions) {
  TokenBatch batch = TokenBatch::from_rows(rows);
  batch.positions_BT = at::empty_like(batch.ids_BT);
  const int64_t width = batch.ids_BT.size(1);
  auto* position = batch.positions_BT.mutable_data_ptr<int64_t>();
  for (size_t r = 0; r < rows.size(); ++r)
    for (int64_t t = 0; t < width; ++t)
      *position++ = first_positions[r] + std::min(t, static_cast<int64_t>(rows[r].size()) - 1);
  return batch;
}

}  // namespace kvlingua
