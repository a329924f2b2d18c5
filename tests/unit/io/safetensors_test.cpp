#include "kvlingua/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "kvlingua/base/error.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

std::string file_of(const std::string& header, const std::string& data = {}) {
  const uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + data;
}

SafetensorsFile parse(const std::string& bytes) {
  return SafetensorsFile::from_memory(std::as_bytes(std::span(bytes)), "f");
}

TEST(Safetensors, ReadsWhatIsThere) {
  const std::string bytes = file_of(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"empty":{"dtype":"I64","shape":[3,0],"data_offsets":[4,4]}}   )",
      "abcdefgh");
  const SafetensorsFile file = parse(bytes);
  EXPECT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.at("a").shape, std::vector<int64_t>());
  EXPECT_EQ(file.at("a").elements(), 1);
  EXPECT_EQ(file.at("b").dtype, SafetensorsDtype::kBF16);
  EXPECT_EQ(std::memcmp(file.at("b").data.data(), "efgh", 4), 0);
  EXPECT_EQ(file.at("empty").elements(), 0);
  EXPECT_TRUE(file.at("empty").data.empty());
  EXPECT_EQ(file.find("c"), nullptr);
}

TEST(Safetensors, UnknownTensorNamesFileAndNearest) {
  const std::string bytes =
      file_of(R"({"model.norm.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x");
  try {
    parse(bytes).at("model.norm.weights");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInput);
    EXPECT_STREQ(error.what(),
                 "f: no tensor named model.norm.weights: got nearest: model.norm.weight");
  }
}

struct Hostile {
  const char* name;
  std::string bytes;
  const char* reason;
};

std::string one(const std::string& info, const std::string& data = "abcd") {
  return file_of("{\"t\":" + info + "}", data);
}

std::string with_length(uint64_t length, const std::string& rest) {
  std::string bytes = file_of("", rest);
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes;
}

class HostileHeader : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileHeader, IsRefusedWithItsReason) {
  try {
    parse(GetParam().bytes);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCorrupt);
    EXPECT_THAT(error.what(), HasSubstr(GetParam().reason));
    EXPECT_THAT(error.what(), ::testing::StartsWith("f: "));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Safetensors, HostileHeader,
    ::testing::Values(
        Hostile{"Empty", "", "file too short"},
        Hostile{"SevenBytes", std::string(7, '\0'), "file too short"},
        Hostile{"ZeroHeader", std::string(8, '\0'), "header is not a JSON object: got nothing"},
        Hostile{"HugeLength", with_length(UINT64_MAX, "{}"), "header length out of range"},
        Hostile{"OverLimit", with_length(100'000'001, "{}"), "at most 100000000"},
        Hostile{"Truncated", with_length(3, "{}"), "file ends inside its header"},
        Hostile{"Array", file_of("[]"), "header is not a JSON object"},
        Hostile{"LeadingSpace", file_of(" {}"), "header is not a JSON object"},
        Hostile{"LfsPointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                "git lfs pull"},
        Hostile{"Unclosed", file_of("{"), "malformed JSON"},
        Hostile{"TrailingJson", file_of("{}{}"), "malformed JSON"},
        Hostile{"BadUtf8", file_of("{\"\xff\":{}}"), "malformed JSON"},
        Hostile{"DeepNesting", file_of("{\"t\":" + std::string(100000, '[')), "\"t\" is an array"},
        Hostile{"TensorIsNumber", one("3"), "\"t\" is a number: expected an object"},
        Hostile{"TensorIsNull", one("null"), "\"t\" is null"},
        Hostile{"NoDtype", one(R"({"shape":[4],"data_offsets":[0,4]})"), "tensor t: no dtype"},
        Hostile{"NoShape", one(R"({"dtype":"U8","data_offsets":[0,4]})"), "tensor t: no shape"},
        Hostile{"NoOffsets", one(R"({"dtype":"U8","shape":[4]})"), "tensor t: no data_offsets"},
        Hostile{"UnknownDtype", one(R"({"dtype":"F12","shape":[4],"data_offsets":[0,4]})"),
                "unknown dtype \"F12\""},
        Hostile{"DtypeNumber", one(R"({"dtype":8,"shape":[4],"data_offsets":[0,4]})"),
                "dtype is a number"},
        Hostile{"UnknownKey", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1})"),
                "unknown key \"x\""},
        Hostile{"NegativeSize", one(R"({"dtype":"U8","shape":[-4],"data_offsets":[0,4]})"),
                "shape holds -4"},
        Hostile{"FractionSize", one(R"({"dtype":"U8","shape":[4.0],"data_offsets":[0,4]})"),
                "shape holds 4.0"},
        Hostile{"NestedShape", one(R"({"dtype":"U8","shape":[[4]],"data_offsets":[0,4]})"),
                "shape holds an array"},
        Hostile{"OneOffset", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0]})"),
                "data_offsets has 1 numbers"},
        Hostile{"ThreeOffsets", one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4,8]})"),
                "more than 2 numbers"},
        Hostile{"Backwards", one(R"({"dtype":"U8","shape":[0],"data_offsets":[4,0]})"),
                "run backwards"},
        Hostile{"BeyondEnd", one(R"({"dtype":"U8","shape":[5],"data_offsets":[0,5]})"),
                "beyond the end of the file"},
        Hostile{"HugeOffset",
                one(R"({"dtype":"U8","shape":[4],"data_offsets":[0,18446744073709551615]})"),
                "data_offsets holds 18446744073709551615"},
        Hostile{"WrongSize", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})"),
                "got 4 bytes, expected 8 for F32 [2]"},
        Hostile{"ProductOverflows",
                one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]})"),
                "size out of range"},
        Hostile{"BitsOverflow",
                one(R"({"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,4]})"),
                "size out of range"},
        Hostile{"OverflowBeforeZero",
                one(R"({"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]})", ""),
                "size out of range"},
        Hostile{"HalfByte", one(R"({"dtype":"F4","shape":[7],"data_offsets":[0,4]})"),
                "size out of range"},
        Hostile{"TrailingBytes", one(R"({"dtype":"U8","shape":[3],"data_offsets":[0,3]})"),
                "bytes after the last tensor: got 4 data bytes, expected 3"},
        Hostile{"HoleAtStart", one(R"({"dtype":"U8","shape":[3],"data_offsets":[1,4]})"),
                "hole in the data"},
        Hostile{"DataWithoutTensors", file_of("{}", "a"), "bytes after the last tensor"},
        Hostile{
            "Overlap",
            file_of(
                R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                "abcd"),
            "tensor b: data overlaps another tensor"},
        Hostile{
            "Hole",
            file_of(
                R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                "abcd"),
            "tensor b: hole in the data"},
        Hostile{
            "DuplicateName",
            file_of(
                R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                "ab"),
            "duplicate tensor name \"a\""},
        Hostile{"DuplicateDtype",
                one(R"({"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]})"),
                "duplicate dtype"},
        Hostile{"DuplicateShape",
                one(R"({"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]})"),
                "duplicate shape"},
        Hostile{"DuplicateMetadata", file_of(R"({"__metadata__":{},"__metadata__":{}})"),
                "duplicate __metadata__"},
        Hostile{"MetadataNumber", file_of(R"({"__metadata__":{"a":1}})"),
                "__metadata__ \"a\" is a number"},
        Hostile{"DuplicateMetadataKey", file_of(R"({"__metadata__":{"a":"1","a":"2"}})"),
                "duplicate key \"a\" in __metadata__"},
        Hostile{"ControlCharactersInName", file_of("{\"a\\n\\u001b[31m\":{\"shape\":[1]}}"),
                "tensor a\\x0a\\x1b[31m: no dtype"}),
    [](const auto& info) { return info.param.name; });

TEST(Safetensors, TooManyDimensions) {
  std::string shape = "1";
  for (int i = 0; i < 100; ++i) shape += ",1";
  EXPECT_THROW(
      parse(one("{\"dtype\":\"U8\",\"shape\":[" + shape + "],\"data_offsets\":[0,1]}", "a")),
      Error);
}

std::string tensor_file(const std::string& name) {
  return file_of("{\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "x");
}

std::string message_of(const std::filesystem::path& directory) {
  try {
    ShardedSafetensors::open(directory);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Safetensors, OpensAFileAndOutlivesItsObject) {
  const TempDir dir;
  const std::filesystem::path path = dir.write("a.safetensors", tensor_file("t"));
  std::optional<SafetensorsFile> copy;
  {
    const SafetensorsFile file = SafetensorsFile::open(path);
    file.advise(FileAccess::kSequential);
    file.advise(FileAccess::kWillNeed, file.at("t").data);
    file.advise(FileAccess::kDontNeed);
    copy = file;
  }
  EXPECT_EQ(copy->at("t").data[0], std::byte{'x'});
  EXPECT_THROW(SafetensorsFile::open(dir.path()), Error);
  EXPECT_THROW(SafetensorsFile::open(dir.path() / "none"), Error);
}

TEST(ShardedSafetensors, FindsTensorsOverShards) {
  const TempDir dir;
  dir.write("a.safetensors", tensor_file("x"));
  dir.write("b.safetensors", tensor_file("y"));
  dir.write("model.safetensors.index.json",
            R"({"metadata":{},"weight_map":{"x":"a.safetensors","y":"b.safetensors"}})");
  const ShardedSafetensors weights = ShardedSafetensors::open(dir.path());
  EXPECT_EQ(weights.names(), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(weights.at("y").data[0], std::byte{'x'});
  EXPECT_EQ(weights.find("z"), nullptr);
  weights.done_with("y");
  EXPECT_EQ(weights.at("y").data[0], std::byte{'x'});
  EXPECT_THROW(weights.at("z"), Error);
}

TEST(ShardedSafetensors, OneFileNeedsNoIndex) {
  const TempDir dir;
  dir.write("model.safetensors", tensor_file("x"));
  EXPECT_TRUE(ShardedSafetensors::open(dir.path()).contains("x"));
}

TEST(ShardedSafetensors, RefusesWhatDoesNotFit) {
  const auto with_index = [](const std::string& index) {
    const TempDir dir;
    dir.write("a.safetensors", tensor_file("x"));
    dir.write("model.safetensors.index.json", index);
    return message_of(dir.path());
  };
  EXPECT_THAT(message_of(TempDir().path()), HasSubstr("no weights"));
  EXPECT_THAT(with_index("{"), HasSubstr("malformed JSON"));
  EXPECT_THAT(with_index("{}"), HasSubstr("no weight_map"));
  EXPECT_THAT(
      with_index(R"({"weight_map":{"x":"b.safetensors","y":"c.safetensors","z":"a.safetensors"}})"),
      HasSubstr("2 of 3 shards missing: got b.safetensors, c.safetensors"));
  EXPECT_THAT(with_index(R"({"weight_map":{"y":"a.safetensors"}})"),
              HasSubstr("y in a.safetensors"));
  EXPECT_THAT(with_index(R"({"weight_map":{"x":"a.safetensors","x":"a.safetensors"}})"),
              HasSubstr("duplicate key \"x\""));
  for (const char* name : {"../a.safetensors", "/etc/a.safetensors", "b/a.safetensors", "..", "",
                           "a.bin", "a\\u0000.safetensors"}) {
    EXPECT_THAT(with_index(std::string(R"({"weight_map":{"x":")") + name + "\"}}"),
                HasSubstr("plain name"))
        << name;
  }
  EXPECT_THAT(with_index(R"({"weight_map":{"x":3}})"), HasSubstr("got 3, expected the plain name"));
}

}  // namespace
}  // namespace kvlingua
