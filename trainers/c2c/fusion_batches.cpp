#include "trainers/c2c/fusion_batches.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "trainers/engine/index_stream.h"

namespace kvlingua {
namespace {

constexpr int64_t kBucket = 64;  // batches that are sorted by length together

}  // namespace

FusionBatches::FusionBatches(std::vector<Item> items, int64_t batch_size, uint64_t seed,
                             bool in_order)
    : items_(std::move(items)), batch_size_(batch_size), seed_(seed), in_order_(in_order) {
  order_epoch();
  per_epoch_ = static_cast<int64_t>(batches_.size());
}

void FusionBatches::order_epoch() {
  if (ordered_ == epoch_) return;
  Random random(mix(seed_, static_cast<uint64_t>(epoch_)));
  std::vector<int64_t> order(items_.size());
  std::iota(order.begin(), order.end(), 0);
  if (!in_order_) random.shuffle(order);
  std::map<int64_t, std::vector<int64_t>> patterns;
  for (const int64_t i : order) patterns[items_[static_cast<size_t>(i)].pattern].push_back(i);
  batches_.clear();
  for (auto& [pattern, of] : patterns) {
    const auto length = [&](int64_t i) { return items_[static_cast<size_t>(i)].length; };
    for (size_t begin = 0; begin < of.size() && !in_order_;) {
      const size_t end = std::min(of.size(), begin + static_cast<size_t>(kBucket * batch_size_));
      std::stable_sort(of.begin() + static_cast<std::ptrdiff_t>(begin),
                       of.begin() + static_cast<std::ptrdiff_t>(end),
                       [&](int64_t a, int64_t b) { return length(a) < length(b); });
      begin = end;
    }
    for (size_t begin = 0; begin < of.size(); begin += static_cast<size_t>(batch_size_)) {
      const size_t end = std::min(of.size(), begin + static_cast<size_t>(batch_size_));
      batches_.emplace_back(of.begin() + static_cast<std::ptrdiff_t>(begin),
                            of.begin() + static_cast<std::ptrdiff_t>(end));
    }
  }
  if (!in_order_) random.shuffle(batches_);
  ordered_ = epoch_;
}

std::vector<std::vector<int64_t>> FusionBatches::next(int64_t most) {
  if (position_ == per_epoch_) {
    ++epoch_;
    position_ = 0;
  }
  order_epoch();
  const int64_t count = std::min(most, per_epoch_ - position_);
  const auto begin = batches_.begin() + position_;
  position_ += count;
  return {begin, begin + count};
}

nlohmann::json FusionBatches::state() const {
  return {{"epoch", epoch_},
          {"position", position_},
          {"batches", per_epoch_},
          {"items", items_.size()},
          {"seed", seed_}};
}

void FusionBatches::restore(const nlohmann::json& state) {
  nlohmann::json mine = this->state(), theirs = state;
  for (nlohmann::json* of : {&mine, &theirs}) {
    if (!of->is_object()) continue;
    of->erase("epoch");
    of->erase("position");
  }
  if (mine != theirs) {
    throw Error({.code = ExitCode::kInput,
                 .where = "training data",
                 .what = "other items, batches or another seed than the checkpoint's",
                 .got = mine.dump(),
                 .expected = printable(state.dump()),
                 .remedy = "use the data it was trained on, or --restart"});
  }
  const StreamPosition at = stream_position(state, per_epoch_);
  epoch_ = at.epoch;
  position_ = at.position;
}

void FusionBatches::seek(int64_t batches) {
  epoch_ = batches / per_epoch_;
  position_ = batches % per_epoch_;
}

}  // namespace kvlingua
