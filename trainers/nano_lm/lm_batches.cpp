#include "trainers/nano_lm/lm_batches.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace kvlingua {
namespace {

struct Row {
  std::vector<int64_t> ids;
  std::vector<float> weights;
};

LmMicroBatch collate(const std::vector<Row>& rows, float total_weight, at::Device device) {
  std::vector<std::vector<int64_t>> ids;
  std::vector<int64_t> positions, targets;
  std::vector<float> weights;
  LmMicroBatch out;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t t = 0; t + 1 < rows[r].ids.size(); ++t) {
      positions.insert(positions.end(), {static_cast<int64_t>(r), static_cast<int64_t>(t)});
      targets.push_back(rows[r].ids[t + 1]);
      weights.push_back(rows[r].weights[t + 1]);
    }
    ids.push_back(rows[r].ids);
    out.tokens += static_cast<int64_t>(rows[r].ids.size());
  }
  const auto n = static_cast<int64_t>(targets.size());
  out.batch = TokenBatch::from_rows(ids);
  out.batch.ids_BT = out.batch.ids_BT.to(device);
  if (out.batch.mask_BT.defined()) out.batch.mask_BT = out.batch.mask_BT.to(device);
  if (out.batch.positions_BT.defined()) out.batch.positions_BT = out.batch.positions_BT.to(device);
  out.positions_N2 = at::tensor(positions, at::kLong).view({n, 2}).to(device);
  out.targets_N = at::tensor(targets, at::kLong).to(device);
  const at::Tensor raw = at::tensor(weights, at::kFloat).to(device);
  out.answers_N = raw.ge(LossWeights().answer);
  out.weights_N = raw / total_weight;
  return out;
}

}  // namespace

LmBatches::LmBatches(SyntheticCorpus corpus, const Tokenizer& tokenizer, ChatFamily family,
                     int64_t batch, int64_t micro_batch)
    : corpus_(corpus),
      tokenizer_(&tokenizer),
      family_(family),
      batch_(batch),
      micro_batch_(micro_batch) {}

std::vector<LmMicroBatch> LmBatches::step(int64_t index, at::Device device) const {
  std::vector<Row> rows;
  float total = 0;
  for (int64_t i = 0; i < batch_; ++i) {
    const SyntheticDialogue dialogue = corpus_.dialogue(static_cast<uint64_t>(index * batch_ + i));
    Row row;
    for (const auto& piece : render(dialogue, chat_frame(family_, dialogue.system))) {
      const Encoding encoding = tokenizer_->encode(piece.text, false);
      row.ids.insert(row.ids.end(), encoding.ids.begin(), encoding.ids.end());
      row.weights.resize(row.ids.size(), piece.weight);
      total += piece.weight * static_cast<float>(encoding.size());
    }
    rows.push_back(std::move(row));
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.ids.size() > b.ids.size(); });
  std::vector<LmMicroBatch> batches;
  for (size_t at = 0; at < rows.size(); at += static_cast<size_t>(micro_batch_)) {
    const size_t end = std::min(rows.size(), at + static_cast<size_t>(micro_batch_));
    batches.push_back(collate({rows.begin() + static_cast<std::ptrdiff_t>(at),
                               rows.begin() + static_cast<std::ptrdiff_t>(end)},
                              total, device));
  }
  return batches;
}

}  // namespace kvlingua
