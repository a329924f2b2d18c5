#include "kvlingua/io/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <type_traits>
#include <utility>

#include "file_mapping.h"
#include "kvlingua/base/error.h"

static_assert(std::endian::native == std::endian::little, "GGUF data is little-endian");

namespace kvlingua {
namespace {

// The format's numbers of a value's type.
enum class ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};
constexpr std::array<uint64_t, 13> kLeastBytes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};

constexpr size_t kMaxRank = 4;
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxElements = uint64_t{1} << 48;

// Types there are beside those that are read, for the message.
std::string other_type(uint32_t type) {
  static constexpr std::pair<uint32_t, const char*> kOthers[] = {
      {9, "Q8_1"},      {10, "Q2_K"},    {11, "Q3_K"},  {15, "Q8_K"},     {16, "IQ2_XXS"},
      {17, "IQ2_XS"},   {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"},   {21, "IQ3_S"},
      {22, "IQ2_S"},    {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},      {26, "I32"},
      {27, "I64"},      {28, "F64"},     {29, "IQ1_M"}, {31, "Q4_0_4_4"}, {32, "Q4_0_4_8"},
      {33, "Q4_0_8_8"}, {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"}};
  for (const auto& [number, name] : kOthers) {
    if (number == type) return name;
  }
  return cat("type ", type);
}

std::optional<GgufType> known_type(uint32_t type) {
  for (const GgufType known : {GgufType::kF32, GgufType::kF16, GgufType::kBF16, GgufType::kQ4_0,
                               GgufType::kQ4_1, GgufType::kQ5_0, GgufType::kQ5_1, GgufType::kQ8_0,
                               GgufType::kQ4_K, GgufType::kQ5_K, GgufType::kQ6_K}) {
    if (static_cast<uint32_t>(known) == type) return known;
  }
  return std::nullopt;
}

// The shortest decimal that reads as this float, as a double.
double as_written(float value) {
  std::array<char, 64> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  double out = value;
  std::from_chars(text.data(), end, out);
  return out;
}

}  // namespace

class GgufFile::Mapping : public FileMapping {
  using FileMapping::FileMapping;
};

// Reads on from a place in the bytes; nothing past their end.
class GgufFile::Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& where)
      : bytes_(bytes), where_(where) {}

  [[noreturn]] void refuse(ExitCode code, std::string_view place, std::string what,
                           std::string got = {}, std::string expected = {},
                           std::string remedy = {}) const {
    throw Error({.code = code,
                 .where = place.empty() ? where_ : cat(where_, ": ", place),
                 .what = std::move(what),
                 .got = std::move(got),
                 .expected = std::move(expected),
                 .remedy = std::move(remedy)});
  }
  [[noreturn]] void corrupt(std::string_view place, std::string what, std::string got = {},
                            std::string expected = {}) const {
    refuse(ExitCode::kCorrupt, place, std::move(what), std::move(got), std::move(expected),
           "download the file again");
  }

  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

  template <class T>
  T number(std::string_view place) {
    if (left() < sizeof(T)) corrupt(place, "file ends here", cat(bytes_.size(), " bytes"));
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  std::string_view string(std::string_view place, uint64_t limit) {
    const auto length = number<uint64_t>(place);
    if (length > left() || length > limit) {
      corrupt(place, "string longer than the file or the format allow", cat(length, " bytes"),
              cat("at most ", std::min(limit, left())));
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + at_), length);
    at_ += length;
    return text;
  }

  // A count of things that take at least so many bytes each.
  uint64_t count(std::string_view place, uint64_t least_bytes) {
    const auto n = number<uint64_t>(place);
    if (n > left() / least_bytes)
      corrupt(place, "more entries than the file has room for", cat(n),
              cat("at most ", left() / least_bytes));
    return n;
  }

  Value value(std::string_view key) {
    const auto type = value_type(key);
    if (type == ValueType::kString) return string(key, left());
    if (type == ValueType::kArray) return array(key);
    return scalar(type, key);
  }

 private:
  ValueType value_type(std::string_view key) {
    const auto type = number<uint32_t>(key);
    if (type > static_cast<uint32_t>(ValueType::kF64))
      corrupt(key, "unknown type of value", cat(type), "0 to 12");
    return static_cast<ValueType>(type);
  }

  Value scalar(ValueType type, std::string_view key) {
    switch (type) {
      case ValueType::kU8:
        return static_cast<uint64_t>(number<uint8_t>(key));
      case ValueType::kI8:
        return static_cast<int64_t>(number<int8_t>(key));
      case ValueType::kU16:
        return static_cast<uint64_t>(number<uint16_t>(key));
      case ValueType::kI16:
        return static_cast<int64_t>(number<int16_t>(key));
      case ValueType::kU32:
        return static_cast<uint64_t>(number<uint32_t>(key));
      case ValueType::kI32:
        return static_cast<int64_t>(number<int32_t>(key));
      case ValueType::kF32:
        return as_written(number<float>(key));
      case ValueType::kU64:
        return number<uint64_t>(key);
      case ValueType::kI64:
        return number<int64_t>(key);
      case ValueType::kF64:
        return number<double>(key);
      default: {
        const auto byte = number<uint8_t>(key);
        if (byte > 1) corrupt(key, "neither true nor false", cat(int{byte}), "0 or 1");
        return byte == 1;
      }
    }
  }

  Value array(std::string_view key) {
    const ValueType type = value_type(key);
    if (type == ValueType::kArray) refuse(ExitCode::kInput, key, "arrays of arrays are not read");
    const uint64_t n = count(key, kLeastBytes[static_cast<size_t>(type)]);
    if (type == ValueType::kString) {
      Strings all;
      all.reserve(n);
      for (uint64_t i = 0; i < n; ++i) all.push_back(string(key, left()));
      return all;
    }
    if (type == ValueType::kF32 || type == ValueType::kF64) {
      Reals all;
      all.reserve(n);
      for (uint64_t i = 0; i < n; ++i)
        all.push_back(type == ValueType::kF32 ? static_cast<double>(number<float>(key))
                                              : number<double>(key));
      return all;
    }
    Integers all;
    all.reserve(n);
    for (uint64_t i = 0; i < n; ++i) all.push_back(integer_of(scalar(type, key), key));
    return all;
  }

  int64_t integer_of(const Value& value, std::string_view key) const {
    if (const auto* wide = std::get_if<uint64_t>(&value)) {
      if (*wide > static_cast<uint64_t>(INT64_MAX)) corrupt(key, "out of range", cat(*wide));
      return static_cast<int64_t>(*wide);
    }
    if (const auto* boolean = std::get_if<bool>(&value)) return *boolean ? 1 : 0;
    return std::get<int64_t>(value);
  }

  std::span<const std::byte> bytes_;
  const std::string& where_;
  uint64_t at_ = 0;
};

int64_t GgufTensor::elements() const {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

namespace {

void read_version(auto& reader) {
  const auto magic = reader.template number<uint32_t>("");
  if (magic != 0x46554747)  // "GGUF"
    reader.refuse(ExitCode::kCorrupt, "", "not a GGUF file", "", "\"GGUF\" at its beginning",
                  "download the file again");
  const auto version = reader.template number<uint32_t>("");
  if (version != 0 && (version & 0xffff) == 0)
    reader.refuse(ExitCode::kInput, "", "a big-endian GGUF file is not read", "",
                  "a little-endian one");
  if (version != 2 && version != 3)
    reader.refuse(ExitCode::kInput, "", "this version of GGUF is not read", cat(version), "2 or 3",
                  "convert the model again with a current llama.cpp");
}

// Where a tensor's bytes are, from the beginning of the data.
struct Place {
  uint64_t begin = 0, bytes = 0;
  std::string_view name;
};

uint64_t read_shape(auto& reader, const std::string& place, GgufTensor& tensor) {
  const auto rank = reader.template number<uint32_t>(place);
  if (rank == 0 || rank > kMaxRank)
    reader.corrupt(place, "rank out of range", cat(rank), cat("1 to ", kMaxRank));
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    const auto size = reader.template number<uint64_t>(place);
    if (size == 0 || size > kMaxElements / elements)
      reader.corrupt(place, "size out of range", cat(size));
    elements *= size;
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
  }
  return elements;
}

Place read_tensor(auto& reader, std::string_view name, GgufTensor& tensor) {
  const std::string place = cat("tensor ", printable(name));
  const uint64_t elements = read_shape(reader, place, tensor);
  const auto number = reader.template number<uint32_t>(place);
  const std::optional<GgufType> type = known_type(number);
  if (!type) {
    reader.refuse(ExitCode::kInput, place, "type of tensor not supported", other_type(number),
                  "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K",
                  "take another quantisation of the model");
  }
  tensor.type = *type;
  const int64_t block = block_elements(*type);
  if (tensor.shape.back() % block != 0)
    reader.corrupt(place, cat("rows are no whole blocks of ", to_string(*type)),
                   cat(tensor.shape.back()), cat("a multiple of ", block));
  const uint64_t bytes =
      elements / static_cast<uint64_t>(block) * static_cast<uint64_t>(block_bytes(*type));
  return {reader.template number<uint64_t>(place), bytes, name};
}

uint64_t alignment_of(auto& reader, const GgufFile& file) {
  constexpr int64_t kDefault = 32, kMost = 1 << 20;
  const int64_t alignment = file.integer("general.alignment").value_or(kDefault);
  if (alignment < 1 || alignment > kMost || !std::has_single_bit(static_cast<uint64_t>(alignment)))
    reader.corrupt("general.alignment", "out of range", cat(alignment), "a power of two");
  return static_cast<uint64_t>(alignment);
}

void refuse_overlaps(const auto& reader, std::vector<Place> places) {
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < places.size(); ++i) {
    if (places[i - 1].begin + places[i - 1].bytes > places[i].begin)
      reader.corrupt(cat("tensor ", printable(places[i].name)),
                     cat("lies over ", printable(places[i - 1].name)));
  }
}

}  // namespace

void GgufFile::read(std::span<const std::byte> bytes) {
  Reader reader(bytes, where_);
  read_version(reader);
  constexpr uint64_t kLeastTensor = 8 + 4 + 8 + 4 + 8, kLeastEntry = 8 + 4 + 1;
  const uint64_t tensors = reader.count("number of tensors", kLeastTensor),
                 entries = reader.count("number of metadata entries", kLeastEntry);
  for (uint64_t i = 0; i < entries; ++i) {
    const std::string_view key = reader.string("metadata key", kMaxKeyBytes);
    const std::string place = printable(key);
    if (!metadata_.emplace(key, reader.value(place)).second) reader.corrupt(place, "given twice");
  }
  if (const auto splits = integer("split.count"); splits && *splits > 1) {
    reader.refuse(ExitCode::kInput, "split.count", "a split GGUF is not read", cat(*splits), "1",
                  "join the parts with llama-gguf-split --merge");
  }
  std::vector<Place> places;
  for (uint64_t i = 0; i < tensors; ++i) {
    const std::string_view name = reader.string("name of a tensor", kMaxKeyBytes);
    GgufTensor tensor;
    places.push_back(read_tensor(reader, name, tensor));
    if (!tensors_.emplace(name, std::move(tensor)).second)
      reader.corrupt(cat("tensor ", printable(name)), "given twice");
  }
  const uint64_t alignment = alignment_of(reader, *this);
  const uint64_t begin = (reader.at() + alignment - 1) / alignment * alignment;
  header_ = bytes.first(reader.at());
  const std::span<const std::byte> data =
      begin <= bytes.size() ? bytes.subspan(begin) : std::span<const std::byte>();
  for (const Place& place : places) {
    const std::string where = cat("tensor ", printable(place.name));
    if (place.begin % alignment != 0)
      reader.corrupt(where, "not aligned", cat(place.begin), cat("a multiple of ", alignment));
    if (place.begin > data.size() || place.bytes > data.size() - place.begin) {
      reader.corrupt(where, "lies past the end of the file",
                     cat(place.bytes, " bytes at ", place.begin), cat("within ", data.size()));
    }
    tensors_.at(place.name).data = data.subspan(place.begin, place.bytes);
  }
  refuse_overlaps(reader, std::move(places));
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  GgufFile file;
  file.where_ = path.string();
  file.mapping_ = std::make_shared<const Mapping>(path);
  file.read(file.mapping_->bytes());
  return file;
}

GgufFile GgufFile::from_memory(std::span<const std::byte> bytes, std::string where) {
  GgufFile file;
  file.where_ = std::move(where);
  file.read(bytes);
  return file;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

template <class T>
const T* GgufFile::typed(std::string_view key, std::string_view expected) const {
  const auto it = metadata_.find(key);
  if (it == metadata_.end()) return nullptr;
  if (const T* value = std::get_if<T>(&it->second)) return value;
  throw Error({.code = ExitCode::kCorrupt,
               .where = cat(where_, ": ", printable(key)),
               .what = "wrong type",
               .expected = std::string(expected)});
}

bool GgufFile::is_integers(std::string_view key) const {
  const auto it = metadata_.find(key);
  return it != metadata_.end() && std::holds_alternative<Integers>(it->second);
}

std::optional<std::string_view> GgufFile::text(std::string_view key) const {
  const auto* value = typed<std::string_view>(key, "a string");
  return value == nullptr ? std::nullopt : std::optional(*value);
}

std::optional<int64_t> GgufFile::integer(std::string_view key) const {
  const auto it = metadata_.find(key);
  if (it != metadata_.end() && std::holds_alternative<uint64_t>(it->second)) {
    const uint64_t wide = std::get<uint64_t>(it->second);
    if (wide <= static_cast<uint64_t>(INT64_MAX)) return static_cast<int64_t>(wide);
  }
  const auto* value = typed<int64_t>(key, "an integer of 63 bits");
  return value == nullptr ? std::nullopt : std::optional(*value);
}

std::optional<double> GgufFile::real(std::string_view key) const {
  const auto* value = typed<double>(key, "a float");
  return value == nullptr ? std::nullopt : std::optional(*value);
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const auto* value = typed<bool>(key, "a boolean");
  return value == nullptr ? std::nullopt : std::optional(*value);
}

const GgufFile::Strings* GgufFile::strings(std::string_view key) const {
  return typed<Strings>(key, "an array of strings");
}
const GgufFile::Integers* GgufFile::integers(std::string_view key) const {
  return typed<Integers>(key, "an array of integers");
}
const GgufFile::Reals* GgufFile::reals(std::string_view key) const {
  return typed<Reals>(key, "an array of floats");
}

void GgufFile::advise(FileAccess access, std::span<const std::byte> range) const {
  if (mapping_) advise_kernel(access, range);
}

bool is_gguf_path(const std::filesystem::path& path) {
  std::error_code ignored;
  return path.extension() == ".gguf" && std::filesystem::is_regular_file(path, ignored);
}

}  // namespace kvlingua
