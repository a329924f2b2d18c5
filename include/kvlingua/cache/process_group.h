// ProcessGroup: the processes of one run, for sums over all of them and for what one tells the
// others. libtorch's own groups do the work: Gloo for what lies in host memory, NCCL for what lies
// on a GPU.
//
// They meet in a TCPStore at MASTER_ADDR:MASTER_PORT, that of torchrun's agent or one of process 0
// that listens at that address alone and only until all have met. A process without the run's
// secret (io/run_secret.h) cannot take part: what is in the store is sealed, and Gloo's connections
// are TLS in which both sides show the run's certificate.
//
// Calls are collective: all processes make the same calls in the same order, one thread each. While
// they compute, a thread of each tells all others twice a second that it is there; a process that
// ends says why. So a call ends with an Error (kFailed) that names the process which has gone
// within a second when that died or said so, after `silence_seconds` when it is frozen or its
// machine gone. SIGTERM and Ctrl-C end the wait for others to come at once. In a call they only end
// the wait for a process that does not answer: those that answer come soon, and all stop together.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "kvlingua/config/world.h"

namespace kvlingua {

struct GroupPlace {
  World world;
  std::filesystem::path folder;   // all see it; the secret lies there until all have met
  at::Device device = at::kCPU;   // of a GPU: its tensors are added by NCCL
  double patience_seconds = 300;  // how long processes wait for each other at the beginning
  double silence_seconds = 15;    // after which one that does not answer counts as gone
};

class ProcessGroup {
 public:
  // Waits until all have come. Throws Error: kFailed naming the address when they do not come, when
  // one comes and goes, when two have the same rank or think of another number of processes.
  static std::unique_ptr<ProcessGroup> join(const GroupPlace& place);
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int64_t rank() const;
  int64_t size() const;
  bool has_nccl() const;

  // In place, float32 or float64, any device; every process ends with the same bits.
  void sum(at::Tensor& tensor);
  // Process 0's, for everybody. Any type and device.
  void broadcast(const at::Tensor& tensor);
  std::string broadcast(const std::string& text);
  // Until all are here.
  void wait();
  // Tells the others why this process ends. Without it they are told that it has stopped.
  void farewell(const std::string& reason) noexcept;

 private:
  struct Impl;
  explicit ProcessGroup(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlingua
