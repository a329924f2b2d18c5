#include "trainers/stages/distillation.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/bridge/reader.h"
#include "kvlingua/cache/stage_meter.h"
#include "kvlingua/io/json_number.h"
#include "trainers/stages/loss.h"

namespace kvlingua {
namespace {

constexpr int64_t kBlock = 16;  // kept items that are prepared together

template <class T>
std::vector<T> joined(std::vector<T> a, const std::vector<T>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// All but the last token of an answer are read; each, and the last, is predicted.
std::vector<int64_t> read_part(const std::vector<int64_t>& answer) {
  return {answer.begin(), answer.end() - 1};
}

// (row, place) pairs of the logits that predict the answers, when `before[r]` tokens of row r stand
// before the first predicted one.
at::Tensor answer_places(const std::vector<int64_t>& before, const std::vector<int64_t>& lengths) {
  std::vector<int64_t> places;
  for (size_t r = 0; r < before.size(); ++r) {
    for (int64_t t = 0; t < lengths[r]; ++t) {
      places.push_back(static_cast<int64_t>(r));
      places.push_back(before[r] - 1 + t);
    }
  }
  return at::tensor(places, at::kLong).view({-1, 2});
}

int64_t size(const std::vector<int64_t>& v) { return static_cast<int64_t>(v.size()); }

// What the target reads behind the translated spans, and what it is to say there.
struct AskedRows {
  std::vector<std::vector<int64_t>> rows;
  std::vector<int64_t> begin;            // of each row, its first position
  std::vector<int64_t> before, lengths;  // tokens before the answer, and of it
  std::vector<int64_t> gold;             // the answers, one after the other
  std::vector<float> weights;            // of each of their tokens: every item counts alike
};

AskedRows asked_rows(const std::vector<const DistillationItem*>& items, int64_t prefix) {
  AskedRows asked;
  for (const DistillationItem* item : items) {
    asked.rows.push_back(joined(item->rest, read_part(item->answer)));
    asked.begin.push_back(prefix + size(item->span));
    asked.before.push_back(size(item->rest));
    asked.lengths.push_back(size(item->answer));
    asked.gold.insert(asked.gold.end(), item->answer.begin(), item->answer.end());
    asked.weights.insert(
        asked.weights.end(), item->answer.size(),
        1.0f / (static_cast<float>(item->answer.size()) * static_cast<float>(items.size())));
  }
  return asked;
}

}  // namespace

DistillationObjective::DistillationObjective(const Projector& projector, Reader source,
                                             Reader target, DistillationData data,
                                             const ChannelStatistics& target_statistics,
                                             const DistillationOptions& options, uint64_t seed,
                                             std::shared_ptr<const Validation> validation,
                                             int64_t rank, int64_t world, int64_t cache_bytes)
    : projector_(projector),
      source_(std::move(source)),
      target_(std::move(target)),
      items_(std::move(data.items)),
      fresh_(std::move(data.fresh)),
      statistics_(target_statistics.to(projector.device())),
      options_(options),
      rank_(rank),
      world_(world),
      train_items_(static_cast<int64_t>(items_.size()) -
                   (data.held_out.empty()
                        ? std::min<int64_t>(64, static_cast<int64_t>(items_.size()) / 10)
                        : 0)),
      stream_(train_items_, mix(seed, hash_name("distillation order"))),
      validation_(std::move(validation)) {
  if (projector.fuses()) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "train.stages: distillation",
                 .what = cat("kind ", projector.kind(), " needs the target to read the context"),
                 .expected = "a kind that translates (ridge, mlp)"});
  }
  if (options.batch.size % world != 0) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "train.distillation.batch.size",
                 .what = "the batch cannot be dealt to the processes",
                 .got = cat("batch of ", options.batch.size, ", ", world, " processes"),
                 .expected = "a multiple of their number"});
  }
  for (DistillationItem& item : data.held_out) items_.push_back(std::move(item));
  double bytes = 0;
  const double row = static_cast<double>(projector.source_row_shape().bytes_per_token(4) +
                                         projector.target_shape().bytes_per_token(4));
  for (const DistillationItem& item : items_) {
    bytes += row * static_cast<double>(item.span.size()) +
             4.0 * static_cast<double>(item.answer.size()) *
                 static_cast<double>(target_.model->config().vocab_size);
  }
  keep_ = bytes <= static_cast<double>(cache_bytes);
  prepared_.resize(items_.size());
}

int64_t DistillationObjective::micro_batches_per_epoch() const {
  return std::max<int64_t>(1, train_items_ / options_.batch.size);
}

nlohmann::json DistillationObjective::state() const {
  if (!fresh_) return stream_.state();
  return {{"drawn", drawn_}};
}

void DistillationObjective::restore(const nlohmann::json& state) {
  if (!fresh_) return stream_.restore(state);
  if (!state.is_object() || !state.contains("drawn")) {
    throw Error({.code = ExitCode::kInput,
                 .where = "training data",
                 .what = "the checkpoint's items came from a list",
                 .got = printable(state.dump()),
                 .expected = "items drawn without end",
                 .remedy = "set train.distillation.fresh to false, or use --restart"});
  }
  const auto& drawn = state["drawn"];
  constexpr int64_t kMost = int64_t{1} << 53;
  if (!is_whole_number(drawn, 0, kMost)) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = "training data: drawn",
                 .what = "no number of items",
                 .got = printable(drawn.dump(), 60),
                 .expected = cat("0 to ", kMost),
                 .remedy = "use an older checkpoint, or --restart"});
  }
  drawn_ = drawn.get<uint64_t>();
}

const DistillationObjective::Prepared& DistillationObjective::prepared(int64_t item) {
  if (!prepared_[static_cast<size_t>(item)]) {
    std::vector<const DistillationItem*> block;
    const int64_t first = item / kBlock * kBlock, count = static_cast<int64_t>(items_.size());
    const int64_t last = std::min(first + kBlock, count);
    for (int64_t i = first; i < last; ++i) block.push_back(&items_[static_cast<size_t>(i)]);
    std::vector<Prepared> ready = prepare(block);
    for (int64_t i = first; i < last; ++i)
      prepared_[static_cast<size_t>(i)] = std::move(ready[static_cast<size_t>(i - first)]);
  }
  return *prepared_[static_cast<size_t>(item)];
}

std::vector<DistillationObjective::Prepared> DistillationObjective::prepare(
    const std::vector<const DistillationItem*>& items) {
  const double begin = StageMeter::now();
  const auto count = static_cast<int64_t>(items.size());
  const c10::NoGradGuard no_grad;
  std::vector<std::vector<int64_t>> source_rows, target_rows;
  std::vector<int64_t> before, lengths;
  for (const DistillationItem* item : items) {
    source_rows.push_back(item->source_span);
    target_rows.push_back(joined(joined(item->span, item->rest), read_part(item->answer)));
    before.push_back(size(item->span) + size(item->rest));
    lengths.push_back(size(item->answer));
  }
  const KvCache source_past = repeat_rows(source_.prefix, count),
                target_past = repeat_rows(target_.prefix, count);
  const auto past = [](const KvCache& cache) { return cache.empty() ? nullptr : &cache; };
  const KvCache source =
      source_.model->prefill(TokenBatch::from_rows(source_rows), past(source_past))
          .cache.unrotated();
  PrefillOptions want;
  want.logits = LogitsAt::kPositions;
  want.logit_positions = answer_places(before, lengths);
  const PrefillResult teacher =
      target_.model->prefill(TokenBatch::from_rows(target_rows), past(target_past), want);
  const KvCache target = teacher.cache.unrotated();
  const at::Tensor log_probs =
      at::log_softmax(teacher.logits.to(at::kFloat) / options_.temperature, -1);
  int64_t at_row = 0;
  std::vector<Prepared> ready;
  for (int64_t i = 0; i < count; ++i) {
    const DistillationItem& item = *items[static_cast<size_t>(i)];
    const auto one = [&](const KvCache& cache, const at::Tensor& tokens,
                         const PreviousTokens& previous) {
      const KvCache row = cache.select_batch(at::tensor({i}, at::kLong));
      return rows_of(row, tokens.unsqueeze(0), previous).to(projector_.device(), at::kFloat);
    };
    const int64_t answer = size(item.answer);
    ready.push_back({.source = one(source, at::tensor(item.source_index, at::kLong),
                                   projector_.previous_tokens()),
                     .target = one(target, at::arange(size(item.span)), {}),
                     .teacher_log_probs = log_probs.narrow(0, at_row, answer).clone()});
    at_row += answer;
  }
  so_far_.items += count;
  so_far_.seconds += StageMeter::now() - begin;
  return ready;
}

// The spans of these items as one padded cache, rotated to stand after the target's prefix.
// `predicted`: the rows of all items one after the other.
KvCache DistillationObjective::translated(const std::vector<const Prepared*>& items,
                                          CacheRows& predicted) const {
  std::vector<at::Tensor> keys, values;
  int64_t longest = 0;
  for (const Prepared* p : items) {
    keys.push_back(p->source.keys_NLHD);
    values.push_back(p->source.values_NLHD);
    longest = std::max(longest, p->source.rows());
  }
  predicted = projector_.translate_rows({at::cat(keys), at::cat(values)});
  const auto count = static_cast<int64_t>(items.size());
  at::Tensor index = at::zeros({count, longest}, at::kLong),
             mask = at::zeros({count, longest}, at::kBool);
  int64_t first = 0;
  for (int64_t b = 0; b < count; ++b) {
    const int64_t tokens = items[static_cast<size_t>(b)]->source.rows();
    index[b].narrow(0, 0, tokens).copy_(at::arange(first, first + tokens));
    mask[b].narrow(0, 0, tokens).fill_(true);
    first += tokens;
  }
  const at::Device device = target_.model->device();
  const at::Tensor rows = index.flatten().to(predicted.keys_NLHD.device());
  const CacheRows padded{predicted.keys_NLHD.index_select(0, rows),
                         predicted.values_NLHD.index_select(0, rows)};
  const at::Tensor positions = (at::arange(longest) + target_.prefix_length())
                                   .expand({count, longest})
                                   .contiguous()
                                   .to(device);
  const KvCache cache =
      cache_of(padded.to(device, target_.model->dtype()), positions, mask.to(device));
  return cache.rotated_to(target_.model->rope(), positions);
}

DistillationObjective::Losses DistillationObjective::losses(const std::vector<int64_t>& chosen) {
  std::vector<const DistillationItem*> items;
  std::vector<const Prepared*> ready;
  std::vector<Prepared> apart;
  for (const int64_t i : chosen) items.push_back(&items_[static_cast<size_t>(i)]);
  if (!keep_) apart = prepare(items);
  for (size_t i = 0; i < chosen.size(); ++i)
    ready.push_back(keep_ ? &prepared(chosen[i]) : &apart[i]);
  return losses(items, ready);
}

DistillationObjective::Losses DistillationObjective::fresh_losses(
    const std::vector<uint64_t>& numbers) {
  std::vector<DistillationItem> drawn;
  std::vector<const DistillationItem*> items;
  std::vector<const Prepared*> ready;
  for (const uint64_t n : numbers) drawn.push_back(fresh_->item(n));
  for (const DistillationItem& item : drawn) items.push_back(&item);
  const std::vector<Prepared> prepared = prepare(items);
  for (const Prepared& p : prepared) ready.push_back(&p);
  return losses(items, ready);
}

DistillationObjective::Losses DistillationObjective::losses(
    const std::vector<const DistillationItem*>& chosen,
    const std::vector<const Prepared*>& items) const {
  const AskedRows asked = asked_rows(chosen, target_.prefix_length());
  CacheRows predicted;
  const KvCache span = translated(items, predicted);
  const KvCache past = target_.prefix.empty()
                           ? span
                           : KvCache::concat(repeat_rows(target_.prefix, span.batch()), span);
  PrefillOptions want;
  want.logits = LogitsAt::kPositions;
  want.logit_positions = answer_places(asked.before, asked.lengths);
  want.want_cache = false;
  want.checkpoint_activations = options_.recomputes();
  const at::Tensor logits =
      target_.model->prefill(rows_at(asked.rows, asked.begin), &past, want).logits.to(at::kFloat);

  // Every item counts alike, however long its answer: then accumulation does not change the loss.
  const at::Tensor weight = at::tensor(asked.weights).to(logits.device());
  std::vector<at::Tensor> teachers, target_keys, target_values, row_weights;
  for (const Prepared* p : items) {
    const int64_t tokens = p->target.rows();
    row_weights.push_back(
        at::full({tokens}, 1.0 / static_cast<double>(tokens * static_cast<int64_t>(items.size()))));
    teachers.push_back(p->teacher_log_probs);
    target_keys.push_back(p->target.keys_NLHD);
    target_values.push_back(p->target.values_NLHD);
  }
  const at::Tensor teacher = at::cat(teachers),
                   student = at::log_softmax(logits / options_.temperature, -1);
  Losses out;
  out.tokens = predicted.rows();
  out.kl = ((teacher.exp() * (teacher - student)).sum(-1) * weight).sum() *
           (options_.temperature * options_.temperature);
  if (options_.ce_weight > 0) {
    const at::Tensor log_probs = at::log_softmax(logits, -1);
    const at::Tensor ids = at::tensor(asked.gold, at::kLong).to(logits.device()).unsqueeze(1);
    out.cross_entropy = -(log_probs.gather(1, ids).squeeze(1) * weight).sum();
  }
  if (options_.anchor > 0) {
    const NormalisedError error =
        normalised_error(predicted, {at::cat(target_keys), at::cat(target_values)}, statistics_,
                         at::cat(row_weights));
    out.anchor = (error.keys + error.values) / 2;
  }
  return out;
}

MicroBatch DistillationObjective::next(bool want_parts) {
  const int64_t share = options_.batch.size / world_;
  Losses l;
  if (fresh_) {
    std::vector<uint64_t> mine;
    for (int64_t i = 0; i < share; ++i)
      mine.push_back(drawn_ + static_cast<uint64_t>(rank_ * share + i));
    drawn_ += static_cast<uint64_t>(options_.batch.size);
    l = fresh_losses(mine);
  } else {
    const std::vector<int64_t> batch = stream_.next(options_.batch.size);
    const auto mine = batch.begin() + rank_ * share;
    l = losses(std::vector<int64_t>(mine, mine + share));
  }
  MicroBatch micro{.loss = l.kl * options_.kl_weight, .tokens = l.tokens};
  if (l.cross_entropy.defined()) micro.loss = micro.loss + options_.ce_weight * l.cross_entropy;
  if (l.anchor.defined()) micro.loss = micro.loss + options_.anchor * l.anchor;
  if (want_parts) {
    micro.parts.emplace_back("kl", l.kl.detach());
    if (l.cross_entropy.defined()) micro.parts.emplace_back("ce", l.cross_entropy.detach());
    if (l.anchor.defined()) micro.parts.emplace_back("anchor", l.anchor.detach());
  }
  return micro;
}

int64_t DistillationObjective::trained_sample() const {
  constexpr int64_t kMost = 64;
  return fresh_ ? std::min(kMost, held_out()) : std::min({kMost, held_out(), train_items_});
}

double DistillationObjective::mean_kl(int64_t first, int64_t count) {
  double kl = 0;
  for (int64_t begin = first; begin < first + count; begin += options_.batch.size) {
    std::vector<int64_t> batch;
    for (int64_t i = begin; i < std::min(first + count, begin + options_.batch.size); ++i)
      batch.push_back(i);
    kl += losses(batch).kl.item<double>() * static_cast<double>(batch.size()) /
          static_cast<double>(count);
  }
  return kl;
}

// Of the items drawn last; before the first step of those that come first.
double DistillationObjective::fresh_kl() {
  const auto count = static_cast<uint64_t>(trained_sample());
  const uint64_t first = drawn_ > count ? drawn_ - count : 0;
  const auto size = static_cast<uint64_t>(options_.batch.size);
  double kl = 0;
  for (uint64_t begin = first; begin < first + count; begin += size) {
    std::vector<uint64_t> batch;
    for (uint64_t n = begin; n < std::min(first + count, begin + size); ++n) batch.push_back(n);
    kl += fresh_losses(batch).kl.item<double>() * static_cast<double>(batch.size()) /
          static_cast<double>(count);
  }
  return kl;
}

ValidationResult DistillationObjective::validate() {
  const c10::NoGradGuard no_grad;
  ValidationResult result;
  result.score_name = "held-out KL";
  if (validation_ != nullptr && validation_->rows() > 0)
    result.numbers = validation_->run(projector_);
  if (held_out() == 0) return result;
  result.score = mean_kl(train_items_, held_out());
  result.numbers.kl = result.score;
  if (trained_sample() > 0)
    result.numbers.kl_trained = fresh_ ? fresh_kl() : mean_kl(0, trained_sample());
  return result;
}

}  // namespace kvlingua
