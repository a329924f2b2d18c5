// Watch: the thread of a process that tells the others that it is there, and why it ends, and hears
// the same from them (process_group.h). It has connections of its own, so it neither disturbs nor
// waits for what the others compute.
//
// Rounds: one message to each of the others, then one from each. Nobody goes on to the next round
// without all, so of several that wait all wait for the same process: the one that does not answer.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

namespace kvlingua {

class Watch {
 public:
  static std::shared_ptr<Watch> start(c10::intrusive_ptr<c10d::Backend> group,
                                      double silence_seconds);

  // Who has ended and should not have, and why: "process 1: a closed connection".
  std::optional<std::string> lost() const;
  // The same, and who has ended in order; waited for, since a call may notice first.
  std::optional<std::string> ended(double seconds);
  // How long the process that is waited for has not answered, and its rank.
  std::pair<double, int64_t> silence() const;
  // The last message, `reason` empty: this process has done all it had to. The thread ends within
  // `seconds`, or is left to itself.
  void stop(const std::string& reason, double seconds) noexcept;

 private:
  struct Pulse;
  Watch(c10::intrusive_ptr<c10d::Backend> group, double silence_seconds);
  void run();
  bool round();
  Pulse pulse() const;
  void send(const Pulse& pulse);
  bool receive(int rank, double seconds);

  c10::intrusive_ptr<c10d::Backend> group_;
  double silence_seconds_;
  std::vector<bool> there_;
  std::vector<c10::intrusive_ptr<c10d::Work>> sent_;  // of this round; of the last ones, unheard
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<std::string> lost_, left_;
  int64_t culprit_ = -1;
  bool stopping_ = false, done_ = false;
  std::string reason_;
  std::atomic<int64_t> waiting_for_{-1}, waiting_since_{0};
};

}  // namespace kvlingua
