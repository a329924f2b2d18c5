#include "kvlingua/cache/stage_meter.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <malloc.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kvlingua/base/clock.h"
#include "kvlingua/io/system.h"

namespace kvlingua {
namespace {

// "cuda" without a number is the first card, not card -1.
at::DeviceIndex index_of(at::Device device) {
  return device.has_index() ? device.index() : at::DeviceIndex{0};
}

}  // namespace

uint64_t peak_memory_bytes(at::Device device) {
  if (device.is_cpu()) return peak_rss_bytes();
  c10::DeviceAllocator* allocator = c10::getDeviceAllocator(device.type());
  if (!allocator->initialized()) return 0;
  const auto stats = allocator->getDeviceStats(index_of(device));
  const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return static_cast<uint64_t>(stats.reserved_bytes[all].peak);
}

void give_back_freed_memory() { ::malloc_trim(0); }

void reset_peak_memory(at::Device device) {
  if (device.is_cpu()) {
    give_back_freed_memory();
    reset_peak_rss();
    return;
  }
  c10::DeviceAllocator* allocator = c10::getDeviceAllocator(device.type());
  if (!allocator->initialized()) return;
  allocator->emptyCache();
  allocator->resetPeakStats(index_of(device));
}

StageMeter::StageMeter(at::Device device) : device_(device) {
  reset_peak_memory(device);
  start_memory_ = peak_memory_bytes(device);
  begin_ = now();
}

double StageMeter::now() { return measured_seconds(); }

void StageMeter::add(const std::string& phase, double units, double seconds) {
  const std::lock_guard lock(mutex_);
  Phase& p = phases_[phase];
  p.units += units;
  p.seconds += seconds;
}

void StageMeter::Timer::stop() {
  if (meter_ == nullptr) return;
  meter_->add(phase_, units_, now() - begin_);
  meter_ = nullptr;
  range_.end();
}

double StageMeter::seconds() const { return now() - begin_; }

nlohmann::ordered_json StageMeter::to_json() const {
  const double total = seconds();
  double other = total;
  nlohmann::ordered_json phases = nlohmann::ordered_json::object();
  for (const auto& [name, phase] : phases_) {
    phases[name] = {{"units", phase.units}, {"seconds", phase.seconds}};
    other -= phase.seconds;
  }
  phases["other"] = {{"units", 1}, {"seconds", std::max(0.0, other)}};
  return {{"total_seconds", total},
          {"start_memory_bytes", start_memory_},
          {"peak_memory_bytes", peak_memory_bytes(device_)},
          {"phases", phases}};
}

}  // namespace kvlingua
