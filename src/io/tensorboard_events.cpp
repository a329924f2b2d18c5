#include "kvlingua/io/tensorboard_events.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/file_ops.h"

namespace kvlingua {
namespace {

constexpr std::string_view kPrefix = "events.out.tfevents.";

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0);
    table[i] = crc;
  }
  return table;
}
constexpr auto kCrcTable = crc_table();

// ---- protobuf wire format: (field number << 3 | wire type), then the value ----
void varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}
void integer(std::string& out, int field, int64_t value) {
  if (value == 0) return;  // proto3 leaves defaults out
  varint(out, static_cast<uint64_t>(field) << 3);
  varint(out, static_cast<uint64_t>(value));
}
template <class Number>
void fixed(std::string& out, int field, Number value) {
  varint(out, static_cast<uint64_t>(field) << 3 | (sizeof value == 8 ? 1 : 5));
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void bytes(std::string& out, int field, std::string_view value) {
  varint(out, static_cast<uint64_t>(field) << 3 | 2);
  varint(out, value.size());
  out += value;
}

// tensorboard.Event without its payload
std::string event(double wall_time, int64_t step) {
  std::string out;
  fixed(out, 1, wall_time);
  integer(out, 2, step);
  return out;
}

// Event.summary { value { ... } }
std::string summary_event(const std::string& value, int64_t step, double wall_time) {
  std::string summary, out = event(wall_time, step);
  bytes(summary, 1, value);
  bytes(out, 5, summary);
  return out;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// TensorBoard reads the files of a folder in the order of their names: a new one must come after
// those there.
int64_t next_timestamp(const std::filesystem::path& folder, double wall_time) {
  auto stamp = static_cast<int64_t>(wall_time);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    int64_t other = 0;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), other);
    if (other < int64_t{1} << 40) stamp = std::max(stamp, other + 1);
  }
  return stamp;
}

}  // namespace

uint32_t crc32c(std::string_view data) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : data)
    crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
  return ~crc;
}

uint32_t masked_crc32c(std::string_view data) {
  const uint32_t crc = crc32c(data);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

EventWriter::EventWriter(const std::filesystem::path& folder, std::optional<int64_t> purge_step,
                         std::optional<double> wall_time) {
  make_directories(folder);
  const double time = wall_time.value_or(now());
  // Ten digits, so that the order of names is the order of times.
  std::string stamp = std::to_string(next_timestamp(folder, time));
  if (stamp.size() < 10) stamp.insert(0, 10 - stamp.size(), '0');
  path_ = folder / cat(kPrefix, stamp, ".kvlingua");
  fd_ = file_ops::open(path_, O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
  if (fd_ < 0) file_ops::fail(path_, "cannot be written", errno);
  std::string version = event(time, 0);
  bytes(version, 3, "brain.Event:2");
  record(version);
  if (!purge_step) return;
  std::string log, start = event(time, *purge_step);
  integer(log, 1, 1);  // SessionLog.START
  bytes(start, 7, log);
  record(start);
}

EventWriter::EventWriter(EventWriter&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

EventWriter::~EventWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void EventWriter::scalar(std::string_view tag, double value, int64_t step,
                         std::optional<double> wall_time) {
  std::string message;
  bytes(message, 1, tag);
  fixed(message, 2, static_cast<float>(value));
  record(summary_event(message, step, wall_time.value_or(now())));
}

void EventWriter::text(std::string_view tag, std::string_view markdown, int64_t step,
                       std::optional<double> wall_time) {
  std::string plugin, metadata, tensor, message;
  bytes(plugin, 1, "text");
  bytes(metadata, 1, plugin);
  integer(tensor, 1, 7);  // DT_STRING
  bytes(tensor, 2, "");   // a scalar's shape
  bytes(tensor, 8, markdown);
  bytes(message, 1, tag);
  bytes(message, 8, tensor);
  bytes(message, 9, metadata);
  record(summary_event(message, step, wall_time.value_or(now())));
}

void EventWriter::record(const std::string& data) {
  const uint64_t length = data.size();
  const std::string_view length_bytes(reinterpret_cast<const char*>(&length), sizeof length);
  std::string out(length_bytes);
  const auto append_crc = [&](std::string_view of) {
    const uint32_t crc = masked_crc32c(of);
    out.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  };
  append_crc(length_bytes);
  out += data;
  append_crc(data);
  if (!file_ops::write_all(fd_, out.data(), out.size()))
    file_ops::fail(path_, "cannot be written", errno, out.size());
}

}  // namespace kvlingua
