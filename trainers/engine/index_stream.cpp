#include "trainers/engine/index_stream.h"

#include <algorithm>
#include <numeric>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/io/json_number.h"

namespace kvlingua {
namespace {

constexpr int64_t kMostEpochs = int64_t{1} << 40;

}  // namespace

IndexStream::IndexStream(int64_t items, uint64_t seed, bool shuffle, int64_t epochs)
    : items_(items), seed_(seed), shuffle_(shuffle), epochs_(epochs) {}

std::vector<int64_t> IndexStream::next(int64_t count) {
  std::vector<int64_t> picked;
  while (static_cast<int64_t>(picked.size()) < count && items_ > 0) {
    if (position_ == items_) {
      ++epoch_;
      position_ = 0;
    }
    if (epochs_ > 0 && epoch_ >= epochs_) break;
    if (ordered_epoch_ != epoch_) {
      order_.resize(static_cast<size_t>(items_));
      std::iota(order_.begin(), order_.end(), 0);
      Random random(mix(seed_, static_cast<uint64_t>(epoch_)));
      if (shuffle_) random.shuffle(order_);
      ordered_epoch_ = epoch_;
    }
    const int64_t wanted = count - static_cast<int64_t>(picked.size());
    const int64_t take = std::min(wanted, items_ - position_);
    picked.insert(picked.end(), order_.begin() + position_, order_.begin() + position_ + take);
    position_ += take;
  }
  return picked;
}

nlohmann::json IndexStream::state() const {
  return {{"epoch", epoch_}, {"position", position_}, {"items", items_}, {"seed", seed_}};
}

void IndexStream::restore(const nlohmann::json& state) {
  const auto is = [&](const char* field, const auto& mine) {
    return state.is_object() && state.contains(field) && state[field] == mine;
  };
  if (!is("items", items_) || !is("seed", seed_)) {
    throw Error({.code = ExitCode::kInput,
                 .where = "training data",
                 .what = "other items or another seed than the checkpoint's",
                 .got = cat(items_, " items, seed ", seed_),
                 .expected = printable(state.dump()),
                 .remedy = "use the data it was trained on, or --restart"});
  }
  const StreamPosition at = stream_position(state, items_);
  epoch_ = at.epoch;
  position_ = at.position;
}

StreamPosition stream_position(const nlohmann::json& state, int64_t length) {
  const auto number = [&](const char* field, int64_t most) {
    const auto found = state.find(field);
    if (found == state.end() || !is_whole_number(*found, 0, most)) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = cat("training data: ", field),
                   .what = "not a position of this stream",
                   .got = printable(state.dump(), 200),
                   .expected = cat("0 .. ", most),
                   .remedy = "use an older checkpoint, or --restart"});
    }
    return found->get<int64_t>();
  };
  return {number("epoch", kMostEpochs), number("position", length)};
}

}  // namespace kvlingua
