#include "trainers/c2c/fusion_objective.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kvlingua/base/random.h"

namespace kvlingua {
namespace {

int64_t training_part(const std::vector<FusionItem>& items, double ratio) {
  const auto n = static_cast<int64_t>(items.size());
  const auto kept = static_cast<int64_t>(ratio * static_cast<double>(n));
  return n < 2 || ratio >= 1 ? n : std::clamp<int64_t>(kept, 1, n - 1);
}

std::vector<FusionBatches::Item> lengths_of(const std::vector<FusionItem>& items, int64_t count) {
  std::vector<FusionBatches::Item> out;
  for (int64_t i = 0; i < count; ++i) {
    const FusionItem& item = items[static_cast<size_t>(i)];
    out.push_back({item.tokens(), item.pattern()});
  }
  return out;
}

}  // namespace

FusionObjective::FusionObjective(C2CProjector& projector, const CausalLM& source,
                                 const CausalLM& target, std::vector<FusionItem> items,
                                 const FusionObjectiveOptions& options)
    : projector_(projector),
      source_(source),
      target_(target),
      items_(std::move(items)),
      options_(options),
      train_items_(training_part(items_, options.train.train_ratio)),
      batches_(lengths_of(items_, train_items_), options.train.batch.size,
               mix(options.seed, hash_name("fusion order")), options.in_order),
      store_(source, items_,
             SourceStore::choose(options.train.source_cache, source, items_, options.several_epochs,
                                 options.train.include_response),
             options.cache_file, options.train.include_response),
      reading_(source.device()) {}

int64_t FusionObjective::steps(const BatchOptions& batch) const {
  if (batch.steps > 0) return batch.steps;
  const int64_t a_pass = (batches_.per_epoch() + batch.accumulation - 1) / batch.accumulation;
  return std::max<int64_t>(
      1, static_cast<int64_t>(std::ceil(static_cast<double>(a_pass) * batch.epochs)));
}

void FusionObjective::seek(int64_t steps, int64_t accumulation) {
  const int64_t a_pass = (batches_.per_epoch() + accumulation - 1) / accumulation;
  batches_.seek(steps / a_pass * batches_.per_epoch() + steps % a_pass * accumulation);
  projector_.fuser().set_temperature(steps);
}

void FusionObjective::restore(const nlohmann::json& state) {
  batches_.restore(state);
  window_.clear();
}

FusionObjective::Planned FusionObjective::plan(std::vector<int64_t> items) const {
  std::vector<FusionSample> samples;
  for (const int64_t i : items) samples.push_back(items_[static_cast<size_t>(i)].sample());
  // Aligned conversations have many sections, whose padding would push an answer over the limit;
  // longer ones were left out (fusion_items.h).
  const bool aligned = !samples[0].source_ids.empty();
  FusionBatch batch =
      collate_fusion(samples, /*pad_id=*/0, aligned ? 0 : options_.train.max_length);
  return {.items = std::move(items), .batch = std::move(batch)};
}

std::vector<double> FusionObjective::window(int64_t accumulation) {
  std::vector<double> shares;
  double labels = 0;
  int64_t number = batches_.given();
  for (auto& items : batches_.next(accumulation)) {
    Planned planned = plan(std::move(items));
    planned.number = number++;
    const auto mine = static_cast<double>(planned.batch.answers.numel());
    labels += mine;
    if (planned.number % options_.world != options_.rank) continue;
    window_.push_back(std::move(planned));
    shares.push_back(mine);
  }
  // The processes' gradients are averaged, not added.
  const auto world = static_cast<double>(options_.world);
  for (double& share : shares) {
    share =
        world * (options_.train.unweighted_micro_batches ? 1.0 / static_cast<double>(accumulation)
                                                         : share / labels);
  }
  return shares;
}

void FusionObjective::read(Planned& planned) {
  if (!planned.source.empty()) return;
  const auto guard = reading_.enter();
  planned.source = store_.cache(planned.items, planned.batch);
  planned.read = reading_.mark();
}

FusionLoss FusionObjective::loss(Planned& planned) {
  C2CFuser::Mode mode;
  mode.training = projector_.training();
  read(planned);
  const KvCache cache = std::move(planned.source);
  reading_.await(planned.read);
  for (const at::Tensor& tensor : {cache.keys(), cache.values(), cache.positions(), cache.mask()})
    reading_.use(tensor);
  // On its own stream the source reads the next micro-batch while this one is learnt from.
  if (reading_.active() && !window_.empty()) read(window_.front());
  const FusionBatch batch = planned.batch.to(target_.device());
  mode.fixed_uniform = options_.uniform;
  mode.recompute = options_.train.recomputes();
  const FusionSource source{&source_, &projector_.fuser()};
  const bool with_answer = options_.train.include_response;
  KvCache clean, answer;
  const KvCache past = fused_prefill(target_, {source}, {cache}, batch, options_.order, mode,
                                     with_answer ? &clean : nullptr);
  if (with_answer) answer = fused_answer(target_, source, cache, clean, batch, mode);
  return fusion_loss(target_, past, batch, options_.train.recomputes(),
                     with_answer ? &answer : nullptr);
}

MicroBatch FusionObjective::next(bool want_parts) {
  if (window_.empty()) window(1);
  Planned planned = std::move(window_.front());
  window_.pop_front();
  // Dropout and the gates' noise are this micro-batch's own, whichever process takes it.
  at::manual_seed(
      mix(mix(options_.seed, hash_name("fusion noise")), static_cast<uint64_t>(planned.number)));
  const FusionLoss l = loss(planned);
  MicroBatch micro{.loss = l.sum / static_cast<double>(l.labels), .tokens = planned.batch.tokens};
  const C2CFuser& fuser = projector_.fuser();
  if (want_parts && fuser.config().has_gate()) {
    const c10::NoGradGuard no_grad;
    micro.parts.emplace_back("temperature", fuser.temperature_tensor()[0].clone());
    micro.parts.emplace_back("gates_open",
                             (fuser.parameters()[0].second > 0).to(at::kFloat).mean());
  }
  return micro;
}

ValidationResult FusionObjective::validate() {
  const c10::NoGradGuard no_grad;
  std::vector<int64_t> held(items_.size() - static_cast<size_t>(train_items_));
  std::iota(held.begin(), held.end(), train_items_);
  std::stable_sort(held.begin(), held.end(), [&](int64_t a, int64_t b) {
    const FusionItem &x = items_[static_cast<size_t>(a)], &y = items_[static_cast<size_t>(b)];
    return std::pair(x.pattern(), x.tokens()) < std::pair(y.pattern(), y.tokens());
  });
  double sum = 0, labels = 0;
  for (size_t begin = 0; begin < held.size();) {
    std::vector<int64_t> items;
    const auto pattern = [&](size_t i) { return items_[static_cast<size_t>(held[i])].pattern(); };
    size_t end = begin;
    while (end < held.size() && pattern(end) == pattern(begin) &&
           static_cast<int64_t>(items.size()) < options_.train.batch.size)
      items.push_back(held[end++]);
    Planned planned = plan(std::move(items));
    const FusionLoss l = loss(planned);
    sum += l.sum.item<double>();
    labels += static_cast<double>(l.labels);
    begin = end;
  }
  ValidationResult result;
  result.score = labels > 0 ? sum / labels : 0;
  if (labels > 0) result.numbers.cross_entropy = result.score;
  return result;
}

}  // namespace kvlingua
