#include "eval/items/block.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "eval/answers/answer.h"
#include "kvlingua/base/random.h"
#include "kvlingua/model/generation.h"

namespace kvlingua {

namespace {

// What the source is asked for when it passes its context on as text.
constexpr const char* kMessageRequest =
    "\nWrite down everything above that somebody who has not read it would need to answer "
    "questions about it.";

}  // namespace

Block::Block(std::vector<Item> items, const Reader& source, const Reader& target,
             const BlockOptions& options)
    : items_(std::move(items)), source_(&source), target_(&target), options_(options) {
  // The next item round the circle that looks for something else: a derangement wherever one
  // exists.
  for (size_t i = 0; i < items_.size(); ++i) {
    size_t partner = i;
    for (size_t step = 1; step < items_.size() && partner == i; ++step) {
      const size_t j = (i + step) % items_.size();
      if (items_[j].probe->markers != items_[i].probe->markers &&
          items_[j].probe->context != items_[i].probe->context)
        partner = j;
    }
    partners_.push_back(partner);
  }
}

uint64_t Block::seed_of(size_t i) const {
  return mix(options_.seed, hash_name(item_key(*items_[i].probe)));
}

at::Tensor Block::span_positions(int64_t tokens) const {
  const int64_t start = target_->prefix_length();
  return at::arange(start, start + tokens,
                    at::TensorOptions().dtype(at::kLong).device(target_->model->device()))
      .unsqueeze(0);
}

const KvCache& Block::own(size_t i) {
  if (own_.empty()) {
    std::vector<std::vector<int64_t>> spans;
    for (const Item& item : items_) spans.push_back(item.span);
    own_ = read_spans(*target_, spans, options_.batch_size);
  }
  return own_[i];
}

const KvCache& Block::read_by_source(size_t i) {
  if (source_caches_.empty()) {
    std::vector<std::vector<int64_t>> spans;
    for (const Item& item : items_) spans.push_back(item.source_span);
    source_caches_ = read_spans(*source_, spans, options_.batch_size);
  }
  return source_caches_[i];
}

const KvCache& Block::own_read_at(int64_t shift, size_t i) {
  auto& caches = shifted_[shift];
  if (caches.empty()) {
    std::vector<std::vector<int64_t>> rows;
    for (const Item& item : items_) {
      rows.push_back(target_->before);
      rows.back().insert(rows.back().end(), item.span.begin(), item.span.end());
    }
    caches = read_rows(*target_->model, rows, options_.batch_size, nullptr, shift);
  }
  return caches[i];
}

std::vector<int64_t> Block::raw_tokens(size_t i) {
  std::vector<int64_t> tokens = target_->tokenizer->encode(items_[i].probe->context, true).ids;
  const auto& written = continuation(i);
  if (!written.empty()) tokens.insert(tokens.end(), written.begin(), written.end() - 1);
  return tokens;
}

const KvCache& Block::raw(size_t i) {
  if (raw_.empty()) {
    std::vector<std::vector<int64_t>> rows;
    for (size_t k = 0; k < items_.size(); ++k) rows.push_back(raw_tokens(k));
    raw_ = read_rows(*target_->model, rows, options_.batch_size);
  }
  return raw_[i];
}

// Items [begin, end) at once: their source caches side by side, padded behind.
std::vector<KvCache> Block::translate_together(const Projector& projector, size_t begin,
                                               size_t end) {
  const at::Device device = target_->model->device();
  std::vector<KvCache> read;
  int64_t longest = 0;
  for (size_t k = begin; k < end; ++k) {
    read.push_back(read_by_source(k));
    longest = std::max(longest, static_cast<int64_t>(items_[k].span.size()));
  }
  const auto rows = static_cast<int64_t>(end - begin);
  const at::Tensor index = at::zeros({rows, longest}, at::kLong);
  const at::Tensor mask = at::zeros({rows, longest}, at::kBool);
  for (size_t k = begin; k < end; ++k) {
    const auto row = static_cast<int64_t>(k - begin) * longest;
    std::copy(items_[k].source_index.begin(), items_[k].source_index.end(),
              index.data_ptr<int64_t>() + row);
    std::fill_n(mask.data_ptr<bool>() + row, items_[k].span.size(), true);
  }
  const KvCache source = stack_padded(read);
  const KvCache here = source.to(device, source.keys().scalar_type());
  const KvCache made = projector
                           .translate({.source = here,
                                       .source_index_BT = index.to(device),
                                       .positions_BT = span_positions(longest),
                                       .rope = target_->model->rope(),
                                       .mask_BT = mask.to(device)})
                           .to(device, target_->model->dtype());
  std::vector<KvCache> caches;
  for (size_t k = begin; k < end; ++k) {
    const auto row = static_cast<int64_t>(k - begin),
               length = static_cast<int64_t>(items_[k].span.size());
    caches.emplace_back(made.keys().narrow(1, row, 1).narrow(3, 0, length),
                        made.values().narrow(1, row, 1).narrow(3, 0, length),
                        made.positions().narrow(0, row, 1).narrow(1, 0, length), made.rope());
  }
  return caches;
}

// One item alone: kinds that draw random numbers or read the target's own cache.
KvCache Block::translate_alone(const Projector& projector, size_t k) {
  const at::Device device = target_->model->device();
  const KvCache& read = read_by_source(k);
  const at::Tensor index = at::tensor(items_[k].source_index, at::kLong).unsqueeze(0).to(device);
  const KvCache here = read.to(device, read.keys().scalar_type());
  return projector
      .translate({.source = here,
                  .source_index_BT = index,
                  .positions_BT = span_positions(static_cast<int64_t>(items_[k].span.size())),
                  .rope = target_->model->rope(),
                  .own = projector.fuses() ? &own(k) : nullptr,
                  .draw = seed_of(k)})
      .to(device, target_->model->dtype());
}

const KvCache& Block::translated(const std::string& name, const Projector& projector, size_t i) {
  auto& caches = translated_[name];
  if (caches.empty()) {
    const at::NoGradGuard no_grad;
    const bool alone = projector.fuses() || projector.kind() == "noise";
    for (size_t k = 0; alone && k < items_.size(); ++k)
      caches.push_back(translate_alone(projector, k));
    if (!alone)
      in_batches(items_.size(), options_.batch_size, [&](size_t begin, size_t end) {
        for (KvCache& cache : translate_together(projector, begin, end))
          caches.push_back(std::move(cache));
      });
  }
  return caches[i];
}

const KvCache& Block::injected(const std::string& name, const Projector* projector, size_t i) {
  return projector == nullptr ? own(i) : translated(name, *projector, i);
}

const CacheMoments& Block::moments(const std::string& name, const Projector* projector) {
  const auto found = moments_.find(name);
  if (found != moments_.end()) return found->second;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> keys, values;
  for (size_t i = 0; i < items_.size(); ++i) {
    const KvCache plain = injected(name, projector, i).unrotated();
    keys.push_back(plain.keys().to(at::kFloat));
    values.push_back(plain.values().to(at::kFloat));
  }
  const at::Tensor k = at::cat(keys, 3), v = at::cat(values, 3);  // [L, 1, H, all tokens, D]
  const auto both = [&](auto&& statistic) {
    return at::stack({statistic(k).select(1, 0), statistic(v).select(1, 0)}, 0);
  };
  return moments_
      .emplace(name, CacheMoments{both([](const at::Tensor& t) { return t.mean(3); }),
                                  both([](const at::Tensor& t) { return t.std(3, false); })})
      .first->second;
}

const std::vector<int64_t>& Block::continuation(size_t i) {
  if (continuations_.empty()) {
    in_batches(items_.size(), options_.batch_size, [&](size_t begin, size_t end) {
      std::vector<std::vector<int64_t>> rows;
      for (size_t k = begin; k < end; ++k)
        rows.push_back(target_->tokenizer->encode(items_[k].probe->context, true).ids);
      const auto made =
          generate(*target_->model, TokenBatch::from_rows(rows), nullptr,
                   {.max_new_tokens = options_.raw_tokens, .stop_ids = target_->stop_ids});
      for (const auto& row : made) continuations_.push_back(row.ids);
    });
  }
  return continuations_[i];
}

const std::string& Block::message(size_t i) {
  if (messages_.empty()) {
    const std::vector<int64_t> request = source_->encode(kMessageRequest + source_->frame.after);
    in_batches(items_.size(), options_.batch_size, [&](size_t begin, size_t end) {
      const std::vector<std::vector<int64_t>> rows(end - begin, request);
      std::vector<KvCache> pasts;
      for (size_t k = begin; k < end; ++k)
        pasts.push_back(KvCache::concat(source_->prefix, read_by_source(k)));
      const KvCache past = stack_padded(pasts);
      const auto made =
          generate(*source_->model, TokenBatch::from_rows(rows), past.empty() ? nullptr : &past,
                   {.max_new_tokens = options_.message_tokens, .stop_ids = source_->stop_ids});
      for (const auto& row : made) messages_.push_back(source_->decode(row.ids));
    });
  }
  return messages_[i];
}

std::vector<std::vector<Item>> make_blocks(std::vector<Item> items, uint64_t seed, size_t size) {
  std::sort(items.begin(), items.end(), [&](const Item& a, const Item& b) {
    const std::string x = item_key(*a.probe), y = item_key(*b.probe);
    const uint64_t hx = mix(seed, hash_name(x)), hy = mix(seed, hash_name(y));
    return hx != hy ? hx < hy : x < y;
  });
  std::vector<std::vector<Item>> blocks;
  for (size_t begin = 0; begin < items.size(); begin += size) {
    const size_t end = std::min(items.size(), begin + size);
    if (end - begin == 1 && !blocks.empty())
      blocks.back().push_back(std::move(items[begin]));
    else
      blocks.emplace_back(std::make_move_iterator(items.begin() + static_cast<int64_t>(begin)),
                          std::make_move_iterator(items.begin() + static_cast<int64_t>(end)));
  }
  return blocks;
}

}  // namespace kvlingua
