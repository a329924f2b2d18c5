#include "safetensors_header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

constexpr std::string_view kMetadata = "__metadata__";

struct Entry {
  std::string name;
  std::optional<SafetensorsDtype> dtype;
  std::optional<std::vector<int64_t>> shape;
  std::array<uint64_t, 2> offsets{};
  size_t offset_count = 0;
  bool saw_offsets = false;
};

// The states are the places in the document; anything that does not fit the present place is an
// error that names it.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderHandler(const std::string& where, std::map<std::string, std::string>& metadata)
      : where_(where), metadata_(metadata) {}

  std::vector<Entry>& entries() { return entries_; }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop && key_ == kMetadata) {
      if (std::exchange(saw_metadata_, true)) refuse_top("duplicate __metadata__");
      place_ = Place::kMetadata;
    } else if (place_ == Place::kTop) {
      if (entries_.size() >= kMaxSafetensorsTensors)
        refuse_top(cat("more than ", kMaxSafetensorsTensors, " tensors"));
      if (!names_.insert(key_).second)
        refuse_top(cat("duplicate tensor name \"", printable(key_), "\""));
      entries_.push_back({.name = key_});
      place_ = Place::kTensor;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      const Entry& entry = entries_.back();
      if (!entry.dtype) refuse("no dtype");
      if (!entry.shape) refuse("no shape");
      if (!entry.saw_offsets) refuse("no data_offsets");
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool key(string_t& text) override {
    key_ = text;
    if (place_ == Place::kTensor && key_ != "dtype" && key_ != "shape" && key_ != "data_offsets") {
      refuse(cat("unknown key \"", printable(key_), "\""), "dtype, shape or data_offsets");
    }
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) {
      if (!metadata_.emplace(key_, text).second) {
        refuse_top(cat("duplicate key \"", printable(key_), "\" in __metadata__"));
      }
    } else if (place_ == Place::kTensor && key_ == "dtype") {
      if (entries_.back().dtype) refuse("duplicate dtype");
      entries_.back().dtype = safetensors_dtype(text);
      if (!entries_.back().dtype)
        refuse(cat("unknown dtype \"", printable(text), "\""), "F32, F16, BF16, I64, ...");
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kTensor && key_ == "shape") {
      if (entries_.back().shape) refuse("duplicate shape");
      entries_.back().shape.emplace();
      place_ = Place::kShape;
    } else if (place_ == Place::kTensor && key_ == "data_offsets") {
      if (std::exchange(entries_.back().saw_offsets, true)) refuse("duplicate data_offsets");
      place_ = Place::kOffsets;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && entries_.back().offset_count != 2) {
      refuse(cat("data_offsets has ", entries_.back().offset_count, " numbers"), "2");
    }
    place_ = Place::kTensor;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (value > kMaxSafetensorsBytes) unexpected(cat(value));
    if (place_ == Place::kShape) {
      if (entries_.back().shape->size() >= kMaxSafetensorsRank)
        refuse(cat("more than ", kMaxSafetensorsRank, " dimensions"));
      entries_.back().shape->push_back(static_cast<int64_t>(value));
    } else if (place_ == Place::kOffsets) {
      Entry& entry = entries_.back();
      if (entry.offset_count >= 2) refuse("data_offsets has more than 2 numbers", "2");
      entry.offsets[entry.offset_count++] = value;
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override {
    return unexpected(cat(value));
  }  // negative
  bool number_float(number_float_t, const string_t& text) override {
    return unexpected(printable(text));
  }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = cat(where_, ": header"),
                 .what = cat("malformed JSON at byte ", position, " of the header"),
                 .remedy = "get the file anew"});
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  [[noreturn]] void refuse_top(std::string what, std::string expected = {}) const {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = cat(where_, ": header"),
                 .what = std::move(what),
                 .expected = std::move(expected)});
  }
  [[noreturn]] void refuse(std::string what, std::string expected = {}) const {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = cat(where_, ": tensor ", printable(entries_.back().name)),
                 .what = std::move(what),
                 .expected = std::move(expected)});
  }
  bool unexpected(const std::string& got) const {
    switch (place_) {
      case Place::kStart:
      case Place::kEnd:
        refuse_top(cat("is ", got), "an object");
      case Place::kTop:
        refuse_top(cat("\"", printable(key_), "\" is ", got), "an object");
      case Place::kMetadata:
        refuse_top(cat("__metadata__ \"", printable(key_), "\" is ", got), "a string");
      case Place::kTensor:
        refuse(cat(key_, " is ", got), key_ == "dtype" ? "a string" : "an array");
      case Place::kShape:
        refuse(cat("shape holds ", got), "sizes");
      case Place::kOffsets:
        refuse(cat("data_offsets holds ", got), "offsets");
    }
    return false;
  }

  const std::string& where_;
  std::map<std::string, std::string>& metadata_;
  std::vector<Entry> entries_;
  std::unordered_set<std::string> names_;
  std::string key_;
  Place place_ = Place::kStart;
  bool saw_metadata_ = false;
};

}  // namespace

std::optional<uint64_t> safetensors_bytes(SafetensorsDtype dtype, std::span<const int64_t> shape) {
  uint64_t elements = 1;
  for (const int64_t size : shape) {
    // As the reference: the product is formed left to right, and an overflow is one even when a
    // zero follows.
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(size), &elements))
      return std::nullopt;
  }
  uint64_t bits = 0;
  if (__builtin_mul_overflow(elements, static_cast<uint64_t>(bit_width(dtype)), &bits))
    return std::nullopt;
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

void parse_safetensors_header(std::string_view header, std::span<const std::byte> data,
                              const std::string& where, SafetensorsFile::Tensors& tensors,
                              std::map<std::string, std::string>& metadata) {
  HeaderHandler handler(where, metadata);
  nlohmann::json::sax_parse(header.begin(), header.end(), &handler);

  std::vector<Entry>& entries = handler.entries();
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  uint64_t position = 0;
  for (Entry& entry : entries) {
    const auto refuse = [&](std::string what, std::string got, std::string expected) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = cat(where, ": tensor ", printable(entry.name)),
                   .what = std::move(what),
                   .got = std::move(got),
                   .expected = std::move(expected)});
    };
    const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
    if (end < begin)
      refuse("data_offsets run backwards", cat("[", begin, ", ", end, "]"), "begin <= end");
    if (end > data.size()) {
      refuse("data lies beyond the end of the file", cat("end ", end),
             cat("at most ", data.size(), " data bytes"));
    }
    if (begin < position)
      refuse("data overlaps another tensor", cat("begin ", begin), cat(position));
    if (begin > position)
      refuse("hole in the data before this tensor", cat("begin ", begin), cat(position));
    const std::optional<uint64_t> size = safetensors_bytes(*entry.dtype, *entry.shape);
    const std::string type = cat(to_string(*entry.dtype), " ", describe_shape(*entry.shape));
    if (!size) refuse("size out of range", type, "a whole number of bytes below 2^61");
    if (*size != end - begin)
      refuse("data size does not fit dtype and shape", cat(end - begin, " bytes"),
             cat(*size, " for ", type));
    position = end;
    SafetensorsView view{*entry.dtype, std::move(*entry.shape), data.subspan(begin, end - begin)};
    tensors.emplace(entry.name, std::move(view));
  }
  if (position != data.size()) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = where,
                 .what = "bytes after the last tensor",
                 .got = cat(data.size(), " data bytes"),
                 .expected = cat(position)});
  }
}

}  // namespace kvlingua
