// What a GGUF file says and what is refused, each in one line that names the place.
#include "kvlingua/io/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

// Writes the format by hand.
class Bytes {
 public:
  template <class T>
  Bytes& put(T value) {
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), from, from + sizeof value);
    return *this;
  }
  Bytes& text(std::string_view text) {
    put<uint64_t>(text.size());
    for (const char c : text) put(c);
    return *this;
  }
  Bytes& begin(uint64_t tensors, uint64_t entries, uint32_t version = 3) {
    return put<uint32_t>(0x46554747).put(version).put(tensors).put(entries);
  }
  Bytes& tensor(std::string_view name, std::vector<uint64_t> sizes, uint32_t type,
                uint64_t offset) {
    text(name).put(static_cast<uint32_t>(sizes.size()));
    for (const uint64_t size : sizes) put(size);
    return put(type).put(offset);
  }
  Bytes& data(size_t n) {
    bytes_.resize((bytes_.size() + 31) / 32 * 32 + n);
    return *this;
  }
  GgufFile read() const { return GgufFile::from_memory(bytes_, "file"); }
  std::vector<std::byte> bytes_;
};

std::string problem(const Bytes& bytes, ExitCode code) {
  try {
    static_cast<void>(bytes.read());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos);
    return error.what();
  }
  return "nothing was refused";
}

TEST(Gguf, ReadsMetadataAndTensors) {
  Bytes b;
  b.begin(1, 4);
  b.text("eps").put<uint32_t>(6).put(1e-6F);
  b.text("layers").put<uint32_t>(4).put<uint32_t>(7);
  b.text("names").put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(2).text("a").text("");
  b.text("kinds").put<uint32_t>(9).put<uint32_t>(5).put<uint64_t>(1).put<int32_t>(-3);
  b.tensor("x", {32, 3}, 8, 0).data(3 * 34);
  const GgufFile file = b.read();
  EXPECT_EQ(file.real("eps"), 1e-6);  // the double, not the float's
  EXPECT_EQ(file.integer("layers"), 7);
  EXPECT_EQ(*file.strings("names"), (GgufFile::Strings{"a", ""}));
  EXPECT_EQ(*file.integers("kinds"), GgufFile::Integers{-3});
  EXPECT_EQ(file.find("x")->shape, (std::vector<int64_t>{3, 32}));
  EXPECT_EQ(file.find("x")->data.size(), 102U);
  EXPECT_FALSE(file.integer("other"));
  EXPECT_THROW(static_cast<void>(file.text("layers")), Error);
}

TEST(Gguf, RefusesOtherKindsByName) {
  using ::testing::HasSubstr;
  EXPECT_THAT(problem(Bytes().begin(0, 0, 1), ExitCode::kInput), HasSubstr("version"));
  EXPECT_THAT(problem(Bytes().begin(0, 0, 0x03000000), ExitCode::kInput), HasSubstr("big-endian"));
  EXPECT_THAT(problem(Bytes().put<uint64_t>(1), ExitCode::kCorrupt), HasSubstr("not a GGUF file"));
  EXPECT_THAT(problem(Bytes().begin(1, 0).tensor("x", {256}, 10, 0).data(84), ExitCode::kInput),
              HasSubstr("tensor x: type of tensor not supported: got Q2_K"));
  Bytes split;
  split.begin(0, 1).text("split.count").put<uint32_t>(2).put<uint16_t>(3);
  EXPECT_THAT(problem(split, ExitCode::kInput), HasSubstr("split"));
}

TEST(Gguf, BelievesNoSizeThatTheFileHasNoRoomFor) {
  using ::testing::HasSubstr;
  const auto corrupt = [](const Bytes& bytes) { return problem(bytes, ExitCode::kCorrupt); };
  EXPECT_THAT(corrupt(Bytes().begin(uint64_t{1} << 60, 0)), HasSubstr("number of tensors"));
  EXPECT_THAT(corrupt(Bytes().begin(0, UINT64_MAX)), HasSubstr("metadata entries"));
  Bytes array;
  array.begin(0, 1).text("k").put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(UINT64_MAX / 8);
  EXPECT_THAT(corrupt(array), HasSubstr("k: more entries"));
  Bytes string;
  string.begin(0, 1).put<uint64_t>(UINT64_MAX).put<uint64_t>(0);
  EXPECT_THAT(corrupt(string), HasSubstr("string longer"));
  EXPECT_THAT(corrupt(Bytes().begin(1, 0).tensor("x", {1ULL << 40, 1ULL << 40}, 0, 0).data(8)),
              HasSubstr("tensor x: size out of range"));
  EXPECT_THAT(corrupt(Bytes().begin(1, 0).tensor("x", {33}, 8, 0).data(40)),
              HasSubstr("no whole blocks of Q8_0"));
  EXPECT_THAT(corrupt(Bytes().begin(1, 0).tensor("x", {4}, 0, 0).data(15)),
              HasSubstr("past the end"));
  EXPECT_THAT(corrupt(Bytes().begin(1, 0).tensor("x", {4}, 0, UINT64_MAX - 31).data(16)),
              HasSubstr("past the end"));
  Bytes over;
  over.begin(2, 0).tensor("x", {16}, 0, 0).tensor("y", {4}, 0, 32).data(64);
  EXPECT_THAT(corrupt(over), HasSubstr("tensor y: lies over x"));
  Bytes twice;
  twice.begin(2, 0).tensor("x", {4}, 0, 0).tensor("x", {4}, 0, 32).data(64);
  EXPECT_THAT(corrupt(twice), HasSubstr("given twice"));
}

// Whatever is cut off, the rest is refused and not read past.
TEST(Gguf, RefusesEveryBeginningOfAFile) {
  Bytes b;
  b.begin(1, 2).text("a").put<uint32_t>(8).text("value");
  b.text("b").put<uint32_t>(9).put<uint32_t>(0).put<uint64_t>(3).put<uint8_t>(1).put<uint16_t>(2);
  b.tensor("x", {4}, 0, 0).data(16);
  const std::vector<std::byte> all = b.bytes_;
  EXPECT_NO_THROW(static_cast<void>(b.read()));
  for (size_t n = 0; n < all.size(); ++n) {
    const std::vector<std::byte> part(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_THROW(static_cast<void>(GgufFile::from_memory(part)), Error) << n;
  }
}

}  // namespace
}  // namespace kvlingua
