// Device names as users write them: auto, cpu, cuda, cuda:N. Whether there is one is asked
// elsewhere (cache/device.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace kvlingua {

struct DeviceName {
  enum class Kind { kAuto, kCpu, kCuda };
  Kind kind = Kind::kAuto;
  int64_t index = -1;  // cuda without a number: -1
};
// Throws Error (kUsage).
DeviceName parse_device(std::string_view text);

}  // namespace kvlingua
