#include "kvlingua/io/safetensors_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "kvlingua/base/error.h"
#include "kvlingua/io/file_ops.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(SafetensorsWriter, AnyOrderInPieces) {
  const TempDir dir;
  SafetensorsWriter writer(dir / "f",
                           {{"a", SafetensorsDtype::kU8, {3}},
                            {"b", SafetensorsDtype::kF32, {2}},
                            {"none", SafetensorsDtype::kI64, {0}}},
                           {{"k", "v"}, {"l", "w"}});
  writer.write("b", bytes("0123"));
  writer.write("a", bytes("xyz"));
  writer.write("b", bytes("4567"));
  writer.finish();
  const SafetensorsFile file = SafetensorsFile::open(dir / "f");
  EXPECT_EQ(std::memcmp(file.at("a").data.data(), "xyz", 3), 0);
  EXPECT_EQ(std::memcmp(file.at("b").data.data(), "01234567", 8), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.at("b").data.data()) % 8, 0u);
  EXPECT_EQ(file.metadata().at("l"), "w");
  EXPECT_EQ(file.file_bytes(), writer.file_bytes());
}

TEST(SafetensorsWriter, InTheOrderOfTheAnnouncement) {
  const TempDir dir;
  SafetensorsWriter writer(
      dir / "f", {{"small", SafetensorsDtype::kU8, {1}}, {"wide", SafetensorsDtype::kF64, {1}}});
  writer.write(bytes("s"));
  EXPECT_THROW(writer.write(bytes("1234")), Error);
  writer.write(bytes("12345678"));
  EXPECT_THROW(writer.write(bytes("")), Error);
  writer.finish();
  EXPECT_EQ(SafetensorsFile::open(dir / "f").at("small").data[0], std::byte{'s'});
}

TEST(SafetensorsWriter, NoTensors) {
  const TempDir dir;
  SafetensorsWriter(dir / "f", {}).finish();
  EXPECT_TRUE(SafetensorsFile::open(dir / "f").tensors().empty());
}

std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(SafetensorsWriter, MisuseIsNamed) {
  const TempDir dir;
  const auto make = [&](std::vector<SafetensorsEntry> specs) {
    return SafetensorsWriter(dir / "f", std::move(specs));
  };
  EXPECT_THAT(message_of([&] {
                make({{"a", SafetensorsDtype::kU8, {1}}, {"a", SafetensorsDtype::kI64, {1}}});
              }),
              HasSubstr("tensor a: given twice"));
  EXPECT_THAT(message_of([&] {
                make({{"a", SafetensorsDtype::kU8, {-1}}});
              }),
              HasSubstr("size out of range: [-1]"));
  EXPECT_THAT(message_of([&] {
                make({{"a", SafetensorsDtype::kU8, {int64_t{1} << 62}},
                      {"b", SafetensorsDtype::kU8, {int64_t{1} << 62}}});
              }),
              HasSubstr("size out of range"));
  EXPECT_THAT(message_of([&] {
                make({{"\xff", SafetensorsDtype::kU8, {1}}});
              }),
              HasSubstr("not UTF-8"));
  EXPECT_THAT(message_of([&] {
                make({{"__metadata__", SafetensorsDtype::kU8, {1}}});
              }),
              HasSubstr("reserved"));
  EXPECT_THAT(message_of([&] {
                make({{"a", SafetensorsDtype::kU8, {1}}}).finish();
              }),
              HasSubstr("tensor a: not completely written: got 0 bytes, expected 1"));
  EXPECT_THAT(message_of([&] {
                make({{"a", SafetensorsDtype::kU8, {1}}}).write("a", bytes("xy"));
              }),
              HasSubstr("more bytes than its shape holds"));
  EXPECT_THAT(message_of([&] {
                make({{"a", SafetensorsDtype::kU8, {1}}}).write("b", bytes("x"));
              }),
              HasSubstr("no tensor named b was announced"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(SafetensorsWriter, FullDiskLeavesTheOldFile) {
  for (int n = 1;; ++n) {
    ASSERT_LT(n, 50);
    const TempDir dir;
    dir.write("f", "old");
    file_ops::set_fault("enospc@" + std::to_string(n));
    bool failed = false;
    try {
      SafetensorsWriter writer(dir / "f", {{"a", SafetensorsDtype::kU8, {1}}});
      writer.write("a", bytes("x"));
      writer.finish();
    } catch (const Error& error) {
      failed = true;
      EXPECT_EQ(error.code(), ExitCode::kDiskFull);
      EXPECT_EQ(bytes_of(dir / "f"), "old");
    }
    file_ops::set_fault("");
    if (!failed) break;
    EXPECT_GT(n, 0);
  }
}

}  // namespace
}  // namespace kvlingua
