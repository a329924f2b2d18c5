#include "kvlingua/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "file_mapping.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/nearest.h"
#include "safetensors_header.h"

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace kvlingua {
namespace {

struct DtypeRow {
  SafetensorsDtype dtype;
  std::string_view name;
  int64_t bits;
};
constexpr std::array kDtypes = {
    DtypeRow{SafetensorsDtype::kBool, "BOOL", 8},
    DtypeRow{SafetensorsDtype::kF4, "F4", 4},
    DtypeRow{SafetensorsDtype::kF6E2M3, "F6_E2M3", 6},
    DtypeRow{SafetensorsDtype::kF6E3M2, "F6_E3M2", 6},
    DtypeRow{SafetensorsDtype::kU8, "U8", 8},
    DtypeRow{SafetensorsDtype::kI8, "I8", 8},
    DtypeRow{SafetensorsDtype::kF8E5M2, "F8_E5M2", 8},
    DtypeRow{SafetensorsDtype::kF8E4M3, "F8_E4M3", 8},
    DtypeRow{SafetensorsDtype::kF8E8M0, "F8_E8M0", 8},
    DtypeRow{SafetensorsDtype::kF8E4M3Fnuz, "F8_E4M3FNUZ", 8},
    DtypeRow{SafetensorsDtype::kF8E5M2Fnuz, "F8_E5M2FNUZ", 8},
    DtypeRow{SafetensorsDtype::kI16, "I16", 16},
    DtypeRow{SafetensorsDtype::kU16, "U16", 16},
    DtypeRow{SafetensorsDtype::kF16, "F16", 16},
    DtypeRow{SafetensorsDtype::kBF16, "BF16", 16},
    DtypeRow{SafetensorsDtype::kI32, "I32", 32},
    DtypeRow{SafetensorsDtype::kU32, "U32", 32},
    DtypeRow{SafetensorsDtype::kF32, "F32", 32},
    DtypeRow{SafetensorsDtype::kC64, "C64", 64},
    DtypeRow{SafetensorsDtype::kF64, "F64", 64},
    DtypeRow{SafetensorsDtype::kI64, "I64", 64},
    DtypeRow{SafetensorsDtype::kU64, "U64", 64},
};

const DtypeRow& row(SafetensorsDtype dtype) {
  return *std::find_if(kDtypes.begin(), kDtypes.end(),
                       [&](const DtypeRow& r) { return r.dtype == dtype; });
}

// What people really have in place of a model file, by its first bytes.
std::string guess(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              std::min<size_t>(bytes.size(), 64));
  if (text.starts_with("version https://git-lfs"))
    return "this is a Git LFS pointer, not the file: run git lfs pull";
  if (text.starts_with("<")) return "this looks like a web page: download the file again";
  if (text.starts_with("PK\x03\x04") || text.starts_with("\x80\x02")) {
    return "this looks like a PyTorch pickle: convert it to safetensors";
  }
  return "download the file again";
}

}  // namespace

std::string_view to_string(SafetensorsDtype dtype) { return row(dtype).name; }
int64_t bit_width(SafetensorsDtype dtype) { return row(dtype).bits; }

std::optional<SafetensorsDtype> safetensors_dtype(std::string_view name) {
  for (const DtypeRow& r : kDtypes) {
    if (r.name == name) return r.dtype;
  }
  return std::nullopt;
}

int64_t SafetensorsView::elements() const {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

std::string describe_shape(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

class SafetensorsFile::Mapping : public FileMapping {
  using FileMapping::FileMapping;
};

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.where_ = path.string();
  file.mapping_ = std::make_shared<const Mapping>(path);
  file.bytes_ = file.mapping_->bytes();
  file.read_header();
  return file;
}

SafetensorsFile SafetensorsFile::from_memory(std::span<const std::byte> bytes, std::string where) {
  SafetensorsFile file;
  file.where_ = std::move(where);
  file.bytes_ = bytes;
  file.read_header();
  return file;
}

void SafetensorsFile::read_header() {
  const auto refuse = [&](std::string what, std::string got, std::string expected) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = where_,
                 .what = std::move(what),
                 .got = std::move(got),
                 .expected = std::move(expected),
                 .remedy = guess(bytes_)});
  };
  uint64_t length = 0;
  if (bytes_.size() < sizeof length) {
    refuse("file too short for a safetensors header", cat(bytes_.size(), " bytes"), "at least 8");
  }
  std::memcpy(&length, bytes_.data(), sizeof length);
  if (length > kMaxSafetensorsHeader) {
    refuse("header length out of range", cat(length), cat("at most ", kMaxSafetensorsHeader));
  }
  const std::span<const std::byte> rest = bytes_.subspan(sizeof length);
  if (length > rest.size()) {
    refuse("file ends inside its header", cat(bytes_.size(), " bytes"),
           cat("at least ", length + sizeof length));
  }
  const std::string_view header(reinterpret_cast<const char*>(rest.data()), length);
  if (!header.starts_with('{')) {
    refuse("header is not a JSON object",
           header.empty() ? "nothing" : cat("\"", printable(header.substr(0, 1)), "\""), "\"{\"");
  }
  parse_safetensors_header(header, rest.subspan(length), where_, tensors_, metadata_);
}

const SafetensorsView* SafetensorsFile::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

const SafetensorsView& SafetensorsFile::at(std::string_view name) const {
  if (const SafetensorsView* tensor = find(name)) return *tensor;
  const std::string near = nearest_name(
      name, tensors_, [](const auto& entry) { return std::string_view(entry.first); },
      name.size() / 3);
  throw Error(
      {.code = ExitCode::kInput,
       .where = where_,
       .what = cat("no tensor named ", printable(name)),
       .got = near.empty() ? cat(tensors_.size(), " others") : cat("nearest: ", printable(near))});
}

void SafetensorsFile::advise(FileAccess access, std::span<const std::byte> range) const {
  if (mapping_) advise_kernel(access, range);
}

}  // namespace kvlingua
