// What a stage took: its time, its highest memory, and how both came about.
//
// Time is kept by phase, together with the units a phase's time grows with (rows of "gather", steps
// of "steps", 1 of what happens once). Preflight runs a stage small and scales each phase by its
// units. Memory is the device's: on the CPU the process's highest resident set, on a GPU the most
// that the caching allocator has taken.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "kvlingua/cache/profile_range.h"

namespace kvlingua {

// Highest memory since reset_peak_memory(), or since the process began, in bytes.
uint64_t peak_memory_bytes(at::Device device);
// Begins to measure anew. On the CPU what is freed is given back to the system first, so that a
// stage is not charged for the one before it.
void reset_peak_memory(at::Device device);
// Freed memory goes back to the system (CPU). A heap that once was large is otherwise filled again
// from end to end by whatever small comes and goes.
void give_back_freed_memory();

class StageMeter {
 public:
  // Begins a stage: resets the device's peak.
  explicit StageMeter(at::Device device);
  // Seconds of the clock that stages are measured by: wall time, or with KVLINGUA_BENCH_CLOCK=cpu
  // this process's processor time, which a busy machine does not change.
  static double now();

  void add(const std::string& phase, double units, double seconds);  // from any thread
  // Times what happens until the result goes out of scope, or until stop(); a profiler sees it
  // under the phase's name.
  class Timer {
   public:
    Timer(StageMeter& meter, std::string phase, double units)
        : meter_(&meter), phase_(std::move(phase)), units_(units), range_(phase_) {}
    ~Timer() { stop(); }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    void stop(double units) {
      units_ = units;
      stop();
    }
    void stop();

   private:
    StageMeter* meter_;
    std::string phase_;
    double units_;
    ProfileRange range_;
    double begin_ = now();
  };
  Timer time(const std::string& phase, double units = 1) { return {*this, phase, units}; }

  struct Phase {
    double units = 0, seconds = 0;
  };
  const std::map<std::string, Phase>& phases() const { return phases_; }
  double seconds() const;  // since the stage began
  // {total_seconds, start_memory_bytes, peak_memory_bytes, phases: {name: {units, seconds}}};
  // "other" is what no phase names.
  nlohmann::ordered_json to_json() const;

 private:
  at::Device device_;
  uint64_t start_memory_ = 0;
  double begin_ = 0;
  std::mutex mutex_;  // of phases_ while threads add
  std::map<std::string, Phase> phases_;
};

}  // namespace kvlingua
