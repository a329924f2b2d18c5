#include "watch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr auto kPeriod = milliseconds(500);
constexpr int kTag = 7;
constexpr double kLastSeconds = 1;

int64_t now_ms() {
  return std::chrono::duration_cast<milliseconds>(Clock::now().time_since_epoch()).count();
}

}  // namespace

struct Watch::Pulse {
  enum State : int64_t { kHere, kLeaves, kFails };
  int64_t state = kHere;
  int64_t culprit = -1;  // of kFails: whose end it is, as far as the sender knows
  std::array<char, 496> reason{};
};

Watch::Watch(c10::intrusive_ptr<c10d::Backend> group, double silence_seconds)
    : group_(std::move(group)),
      silence_seconds_(silence_seconds),
      there_(static_cast<size_t>(group_->getSize()), true) {
  there_[static_cast<size_t>(group_->getRank())] = false;
}

std::shared_ptr<Watch> Watch::start(c10::intrusive_ptr<c10d::Backend> group,
                                    double silence_seconds) {
  std::shared_ptr<Watch> watch(new Watch(std::move(group), silence_seconds));
  std::thread([watch] { watch->run(); }).detach();
  return watch;
}

void Watch::run() {
  while (round()) {
    std::unique_lock lock(mutex_);
    if (!lost_) changed_.wait_for(lock, kPeriod, [&] { return stopping_; });
  }
  const std::lock_guard lock(mutex_);
  done_ = true;
  changed_.notify_all();
}

Watch::Pulse Watch::pulse() const {
  const std::lock_guard lock(mutex_);
  Pulse out;
  if (!lost_ && !stopping_) return out;
  const std::string& reason = lost_ ? *lost_ : reason_;
  out.state = reason.empty() ? Pulse::kLeaves : Pulse::kFails;
  out.culprit = lost_ ? culprit_ : group_->getRank();
  std::strncpy(out.reason.data(), reason.c_str(), out.reason.size() - 1);
  return out;
}

// Gloo hands a message over when the other side asks for it: it is waited for at the round's end.
// A connection that cannot be written to cannot be read either: receive() says so.
void Watch::send(const Pulse& pulse) {
  for (size_t r = 0; r < there_.size(); ++r) {
    if (!there_[r]) continue;
    at::Tensor bytes = at::empty({static_cast<int64_t>(sizeof pulse)}, at::kByte);
    std::memcpy(bytes.mutable_data_ptr(), &pulse, sizeof pulse);
    std::vector<at::Tensor> tensors{bytes};
    try {
      sent_.push_back(group_->send(tensors, static_cast<int>(r), kTag));
    } catch (const std::exception&) {
    }
  }
}

// False: the watch has nothing more to hear.
bool Watch::receive(int rank, double seconds) {
  Pulse theirs;
  std::string error;
  waiting_for_ = rank;
  waiting_since_ = now_ms();
  try {
    std::vector<at::Tensor> tensors{at::empty({static_cast<int64_t>(sizeof theirs)}, at::kByte)};
    group_->recv(tensors, rank, kTag)->wait(milliseconds(static_cast<int64_t>(seconds * 1000)));
    std::memcpy(&theirs, tensors[0].const_data_ptr(), sizeof theirs);
    theirs.reason.back() = '\0';
  } catch (const std::exception&) {
    const double waited = static_cast<double>(now_ms() - waiting_since_) / 1000;
    error = waited < 0.9 * seconds
                ? std::string("its connection is closed")
                : cat("it has not answered for ", static_cast<int64_t>(waited + 0.5), " s");
  }
  waiting_for_ = -1;
  const std::lock_guard lock(mutex_);
  if (lost_ || stopping_) return true;  // what ends this process is known already
  if (!error.empty()) {
    culprit_ = rank;
    lost_ = cat("process ", rank, ": ", error);
  } else if (theirs.state == Pulse::kFails) {
    culprit_ = theirs.culprit;
    const std::string reason = printable(theirs.reason.data(), theirs.reason.size());
    lost_ = theirs.culprit == rank ? cat("process ", rank, ": ", reason) : reason;
  } else if (theirs.state == Pulse::kLeaves) {
    there_[static_cast<size_t>(rank)] = false;
    left_ = cat("process ", rank, ": it has done its part and left");
  }
  if (lost_ || left_) changed_.notify_all();
  return !lost_;
}

bool Watch::round() {
  const Pulse mine = pulse();
  send(mine);
  // The last round is a whole one too: the others hear of the end in it.
  const bool last = mine.state != Pulse::kHere;
  for (size_t r = 0; r < there_.size(); ++r) {
    if (there_[r] && !receive(static_cast<int>(r), last ? kLastSeconds : silence_seconds_)) break;
  }
  if (last || !lost()) {
    for (const auto& work : sent_) {
      try {
        work->wait(last ? kPeriod
                        : std::chrono::ceil<milliseconds>(
                              std::chrono::duration<double>(silence_seconds_)));
      } catch (const std::exception&) {  // it has left with this round
      }
    }
    sent_.clear();
  }
  if (last) return false;
  const std::lock_guard lock(mutex_);
  return lost_ || std::find(there_.begin(), there_.end(), true) != there_.end();
}

std::optional<std::string> Watch::lost() const {
  const std::lock_guard lock(mutex_);
  return lost_;
}

std::optional<std::string> Watch::ended(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return lost_ || left_; });
  return lost_ ? lost_ : left_;
}

std::pair<double, int64_t> Watch::silence() const {
  const int64_t rank = waiting_for_;
  if (rank < 0) return {0, -1};
  return {static_cast<double>(now_ms() - waiting_since_) / 1000, rank};
}

void Watch::stop(const std::string& reason, double seconds) noexcept {
  std::unique_lock lock(mutex_);
  if (!stopping_) reason_ = reason;
  stopping_ = true;
  changed_.notify_all();
  changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return done_; });
}

}  // namespace kvlingua
