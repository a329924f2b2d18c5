#include "kvlingua/bridge/reader.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "kvlingua/base/error.h"

namespace kvlingua {

Reader Reader::make(const CausalLM& model, const Tokenizer& tokenizer, const ChatFrame& frame) {
  if (tokenizer.vocab_size() > model.config().vocab_size && model.config().vocab_size > 0) {
    // Ids beyond the embedding would only fail in the middle of a run.
    throw Error({.code = ExitCode::kInput,
                 .where = "model",
                 .what = "tokenizer and model do not belong together",
                 .got = cat("a tokenizer of ", tokenizer.vocab_size(), " entries"),
                 .expected = cat("at most ", model.config().vocab_size)});
  }
  Reader reader;
  reader.model = &model;
  reader.tokenizer = &tokenizer;
  reader.frame = frame;
  reader.before = prepend_bos(tokenizer, reader.encode(frame.before));
  reader.stop_ids = model.config().eos_ids;
  if (const auto eos = tokenizer.eos_id();
      eos &&
      std::find(reader.stop_ids.begin(), reader.stop_ids.end(), *eos) == reader.stop_ids.end())
    reader.stop_ids.push_back(*eos);
  if (!reader.before.empty()) {
    const at::NoGradGuard no_grad;
    reader.prefix = model.prefill(TokenBatch::from_rows({reader.before})).cache;
  }
  return reader;
}

std::vector<int64_t> Reader::encode(std::string_view text) const {
  return text.empty() ? std::vector<int64_t>{} : tokenizer->encode(text, false).ids;
}

std::string Reader::decode(const std::vector<int64_t>& ids) const {
  return ids.empty() ? "" : tokenizer->decode(ids, true);
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
