#include "kvlingua/io/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "kvlingua/base/error.h"
#include "safetensors_header.h"

namespace kvlingua {

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<SafetensorsEntry> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path), header_(layout(std::move(tensors), metadata)), file_(path, file_bytes_) {
  file_.write(header_);
}

std::string SafetensorsWriter::layout(std::vector<SafetensorsEntry> tensors,
                                      const std::map<std::string, std::string>& metadata) {
  const auto refuse = [&](const std::string& name, std::string what) {
    throw Error(
        {.where = cat(path_.string(), ": tensor ", printable(name)), .what = std::move(what)});
  };
  for (const SafetensorsEntry& tensor : tensors) announced_.push_back(tensor.name);
  std::sort(tensors.begin(), tensors.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
            });
  // As JSON text right away: there may be very many tensors.
  const auto quoted = [&](const std::string& name) {
    try {
      return nlohmann::json(name).dump();
    } catch (const nlohmann::json::exception&) {
      throw Error({.where = path_.string(),
                   .what = "a name or metadata is not UTF-8",
                   .got = printable(name)});
    }
  };
  std::string text = "{";
  if (!metadata.empty()) {
    for (const auto& [key, value] : metadata)
      text += cat(text.size() == 1 ? "\"__metadata__\":{" : ",", quoted(key), ":", quoted(value));
    text += '}';
  }
  uint64_t end = 0;
  for (const SafetensorsEntry& tensor : tensors) {
    const bool negative = std::any_of(tensor.shape.begin(), tensor.shape.end(),
                                      [](int64_t size) { return size < 0; });
    const std::optional<uint64_t> bytes =
        negative ? std::nullopt : safetensors_bytes(tensor.dtype, tensor.shape);
    if (!bytes || *bytes > kMaxSafetensorsBytes - end)
      refuse(tensor.name, cat("size out of range: ", describe_shape(tensor.shape)));
    if (tensor.name == "__metadata__") refuse(tensor.name, "a reserved name");
    if (!places_.emplace(tensor.name, Place{end, end + *bytes, 0}).second)
      refuse(tensor.name, "given twice");
    text += cat(text.size() == 1 ? "" : ",", quoted(tensor.name), ":{\"dtype\":\"",
                to_string(tensor.dtype), "\",\"shape\":[");
    for (size_t i = 0; i < tensor.shape.size(); ++i)
      text += cat(i == 0 ? "" : ",", tensor.shape[i]);
    text += cat("],\"data_offsets\":[", end, ",", end + *bytes, "]}");
    end += *bytes;
  }
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kMaxSafetensorsHeader)
    throw Error(
        {.where = path_.string(), .what = "header too long", .got = cat(text.size(), " bytes")});
  const uint64_t length = text.size();
  std::string prefix(sizeof length, '\0');
  std::memcpy(prefix.data(), &length, sizeof length);
  file_bytes_ = sizeof length + length + end;
  return prefix + text;
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> data) {
  const auto it = places_.find(name);
  if (it == places_.end())
    throw Error({.where = path_.string(),
                 .what = cat("no tensor named ", printable(name), " was announced")});
  Place& place = it->second;
  const uint64_t left = place.end - place.begin - place.written;
  if (data.size() > left) {
    throw Error({.where = cat(path_.string(), ": tensor ", printable(name)),
                 .what = "more bytes than its shape holds",
                 .got = cat(data.size()),
                 .expected = cat("at most ", left)});
  }
  file_.write_at(header_.size() + place.begin + place.written, data.data(), data.size());
  place.written += data.size();
}

void SafetensorsWriter::write(std::span<const std::byte> data) {
  if (next_ >= announced_.size()) {
    throw Error({.where = path_.string(),
                 .what = "one tensor too many",
                 .expected = cat(announced_.size(), " tensors")});
  }
  const std::string& name = announced_[next_];
  const Place& place = places_.find(name)->second;
  if (data.size() != place.end - place.begin) {
    throw Error({.where = cat(path_.string(), ": tensor ", printable(name)),
                 .what = "wrong number of bytes",
                 .got = cat(data.size()),
                 .expected = cat(place.end - place.begin)});
  }
  write(name, data);
  ++next_;
}

void SafetensorsWriter::finish() {
  for (const auto& [name, place] : places_) {
    if (place.begin + place.written == place.end) continue;
    throw Error({.where = cat(path_.string(), ": tensor ", printable(name)),
                 .what = "not completely written",
                 .got = cat(place.written, " bytes"),
                 .expected = cat(place.end - place.begin)});
  }
  file_.commit();
}

}  // namespace kvlingua
