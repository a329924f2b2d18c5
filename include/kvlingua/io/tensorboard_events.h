// TensorBoard event files: scalars and texts over steps.
//
// A file is a sequence of TFRecords (length, masked crc32c of the length, data, masked crc32c of
// the data), each an Event protobuf (tensorboard/compat/proto/event.proto, summary.proto). Five
// message types of a few fields each, so they are encoded by hand. Every call is one write(2): a
// killed run loses nothing that was added, and TensorBoard stops reading at a torn record.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace kvlingua {

// CRC-32C (Castagnoli), and the rotation and offset that TFRecord stores it with.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

class EventWriter {
 public:
  // Starts a new file in `folder` (made when absent), named after all that are there already. A
  // resumed run gives the step it resumes from: TensorBoard then drops what older files say about
  // that step and later ones. `wall_time`: seconds since 1970; now when left out.
  explicit EventWriter(const std::filesystem::path& folder,
                       std::optional<int64_t> purge_step = std::nullopt,
                       std::optional<double> wall_time = std::nullopt);
  ~EventWriter();
  EventWriter(EventWriter&& other) noexcept;
  EventWriter& operator=(EventWriter&&) = delete;

  void scalar(std::string_view tag, double value, int64_t step,
              std::optional<double> wall_time = std::nullopt);
  // Markdown, as the Text tab shows it.
  void text(std::string_view tag, std::string_view markdown, int64_t step,
            std::optional<double> wall_time = std::nullopt);

  const std::filesystem::path& path() const { return path_; }

 private:
  void record(const std::string& event);

  std::filesystem::path path_;
  int fd_ = -1;
};

}  // namespace kvlingua
