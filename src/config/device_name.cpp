#include "kvlingua/config/device_name.h"

#include <charconv>

#include "kvlingua/base/error.h"

namespace kvlingua {

DeviceName parse_device(std::string_view text) {
  if (text.empty() || text == "auto") return {DeviceName::Kind::kAuto};
  if (text == "cpu") return {DeviceName::Kind::kCpu};
  if (text == "cuda") return {DeviceName::Kind::kCuda};
  if (text.starts_with("cuda:")) {
    const std::string_view digits = text.substr(5);
    int64_t index = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (error == std::errc() && end == digits.data() + digits.size() && index >= 0 && index < 128) {
      return {DeviceName::Kind::kCuda, index};
    }
  }
  throw Error({.code = ExitCode::kUsage,
               .where = "device",
               .got = printable(text, 40),
               .expected = "auto, cpu, cuda or cuda:N"});
}

}  // namespace kvlingua
