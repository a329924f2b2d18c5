// ProfileRange: what happens between its beginning and its end has this name in a profiler's
// picture (nsys profile build/bin/kvlingua ...). A start/end range of NVTX 3, so ranges may overlap
// and end on another thread. Stages and the phases of their StageMeter are such ranges. Without a
// profiler it costs a few nanoseconds; builds without CUDA have nothing behind it.
#pragma once

#include <cstdint>
#include <string>

namespace kvlingua {

class ProfileRange {
 public:
  explicit ProfileRange(const std::string& name);
  ~ProfileRange() { end(); }
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;
  void end();

 private:
  [[maybe_unused]] uint64_t id_ = 0;  // NVTX's
  bool open_ = true;
};

}  // namespace kvlingua
