// ProcessRing: the processes of one run in a ring of TCP connections, for sums over all of them.
//
// Process 0 listens at the address that torchrun or Slurm gives (MASTER_ADDR, MASTER_PORT); the
// others come there once, learn where their right neighbour listens, and from then on data go round
// the ring: a sum is a reduce-scatter followed by an all-gather (Patarasuk and Yuan 2009), so each
// process sends and receives twice the data whatever their number, and every process ends with the
// same bits. Calls are collective: all processes make the same calls in the same order. One thread.
// libtorch's own groups are not used: its wheels lack the headers of Gloo.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace kvlingua {

struct RingPlace {
  int64_t rank = 0, size = 1;
  std::string master_address = "127.0.0.1";
  int64_t master_port = 29500;
  double patience_seconds = 300;  // how long processes wait for each other at the beginning
};

class ProcessRing {
 public:
  // Waits until all have come. Throws Error (kFailed) naming the address when they do not, or when
  // two have the same rank or think of another number of processes.
  static std::unique_ptr<ProcessRing> join(const RingPlace& place);
  ~ProcessRing();
  ProcessRing(const ProcessRing&) = delete;
  ProcessRing& operator=(const ProcessRing&) = delete;

  int64_t rank() const;
  int64_t size() const;
  // Each element becomes its sum over all processes. Throws Error (kFailed) when a neighbour has
  // gone.
  void sum(float* data, size_t count);
  void sum(double* data, size_t count);
  // Process 0's bytes for everybody.
  void broadcast(void* data, size_t bytes);
  std::string broadcast(const std::string& text);  // any length; only process 0's matters

 private:
  struct Impl;
  explicit ProcessRing(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlingua
