// Structure-aware mutations: a valid document whose fields are changed as the fuzzer's bytes say,
// so that what is tried is past the hashes and the syntax. Shared by the targets over folders.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace kvlingua::fuzz {

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), left_(size) {}
  bool more() const { return left_ > 0; }
  uint8_t byte() { return left_ == 0 ? 0 : (--left_, *data_++); }
  uint32_t below(uint32_t n) { return n == 0 ? 0 : (byte() << 8 | byte()) % n; }
  // Numbers at the edges of what fields may be, or near `now`.
  int64_t number(int64_t now) {
    static constexpr int64_t kEdges[] = {0,
                                         1,
                                         -1,
                                         2,
                                         127,
                                         4096,
                                         65536,
                                         INT32_MAX,
                                         INT32_MIN,
                                         int64_t{1} << 32,
                                         int64_t{1} << 40,
                                         int64_t{1} << 62,
                                         INT64_MAX,
                                         INT64_MIN};
    const uint8_t kind = byte();
    if (kind % 3 == 0)  // may wrap round
      return static_cast<int64_t>(static_cast<uint64_t>(now) +
                                  static_cast<uint64_t>(static_cast<int8_t>(byte())));
    if (kind % 3 == 1) return kEdges[byte() % std::size(kEdges)];
    int64_t value = 0;
    for (int i = 0; i < 8; ++i)
      value = static_cast<int64_t>(static_cast<uint64_t>(value) << 8 | byte());
    return value;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

inline void collect(nlohmann::json& value, std::vector<nlohmann::json*>& all) {
  all.push_back(&value);
  if (value.is_structured()) {
    for (auto& member : value) collect(member, all);
  }
}

// Changes a few members of a document, or takes them away.
inline void mutate(nlohmann::json& document, Bytes& bytes) {
  for (int changes = 1 + bytes.byte() % 4; changes > 0; --changes) {
    std::vector<nlohmann::json*> all;
    collect(document, all);
    nlohmann::json& chosen = *all[bytes.below(static_cast<uint32_t>(all.size()))];
    switch (bytes.byte() % 10) {
      case 0:
        chosen = nullptr;
        break;
      case 1:
        chosen = nlohmann::json::array();
        break;
      case 2:
        chosen = nlohmann::json::object();
        break;
      case 3:
        chosen = std::string(bytes.byte(), static_cast<char>('a' + bytes.byte() % 26));
        break;
      case 4:
        chosen = 1e300;
        break;
      case 5:
        chosen = bytes.byte() % 2 == 0;
        break;
      case 6:
        if (chosen.is_object() && !chosen.empty()) {
          auto it = chosen.begin();
          std::advance(it, bytes.below(static_cast<uint32_t>(chosen.size())));
          chosen.erase(it);
        }
        break;
      default:
        chosen = bytes.number(chosen.is_number_integer() ? chosen.get<int64_t>() : 0);
    }
  }
}

// A folder of this process, in memory where there is one.
inline std::filesystem::path scratch(const std::string& name) {
  const std::filesystem::path memory = "/dev/shm";
  const auto base =
      std::filesystem::exists(memory) ? memory : std::filesystem::temp_directory_path();
  const auto folder = base / ("kvlingua-fuzz-" + name + "-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  return folder;
}

}  // namespace kvlingua::fuzz
