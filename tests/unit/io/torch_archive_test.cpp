#include "kvlingua/io/torch_archive.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

std::filesystem::path data(const std::string& name) {
  return std::filesystem::path(KVLINGUA_TEST_DATA) / "c2c" / name;
}

template <class T>
std::vector<T> values(const PtTensor& t) {
  const auto bytes = t.contiguous_bytes();
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

TEST(TorchArchive, ReadsWhatTorchSaves) {
  const PtPointer root = read_torch_archive(data("state.pt"));
  ASSERT_EQ(root->kind, PtValue::Kind::kDict);
  ASSERT_EQ(root->entries.size(), 5u);
  EXPECT_EQ(root->find("key_in.weight")->tensor.dtype, "bfloat16");
  EXPECT_EQ(root->find("key_in.weight")->tensor.shape, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(values<float>(root->find("key_in.bias")->tensor), (std::vector<float>{0, .125f, .25f}));
  EXPECT_EQ(root->find("gate")->tensor.shape.size(), 0u);
  EXPECT_EQ(values<uint16_t>(root->find("gate")->tensor),
            (std::vector<uint16_t>{0x3400}));  // 0.25 in half
  EXPECT_EQ(values<float>(root->find("strided")->tensor), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(values<double>(root->find("double")->tensor), (std::vector<double>{1.5, -2.5}));
}

TEST(TorchArchive, ReadsModulesAndMixedValues) {
  const PtPointer module = read_torch_archive(data("module.pt"));
  EXPECT_EQ(values<float>(module->find("weight")->tensor), (std::vector<float>{1, 2, 3, 4}));
  const PtPointer mixed = read_torch_archive(data("mixed.pt"));
  EXPECT_EQ(values<float>(mixed->find("parameter")->tensor), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(mixed->find("step")->integer, 7);
  EXPECT_EQ(mixed->find("loss")->real, 1.25);
  EXPECT_EQ(mixed->find("betas")->items[1]->real, 0.999);
  EXPECT_EQ(mixed->find("none")->kind, PtValue::Kind::kNone);
  EXPECT_TRUE(mixed->find("flags")->items[0]->boolean);
  EXPECT_EQ(mixed->find("big")->integer, int64_t{1} << 40);
  EXPECT_EQ(mixed->find("negative")->integer, -3);
}

TEST(TorchArchive, HostileFilesAreRefusedWithTheReason) {
  const auto reason = [](const std::string& file) -> std::string {
    try {
      read_torch_archive(data(file));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt);
      return error.what();
    }
    return "accepted";
  };
  std::filesystem::remove("/tmp/kvlingua-pwned");
  EXPECT_NE(reason("hostile_call.pt").find("system"), std::string::npos)
      << reason("hostile_call.pt");
  EXPECT_FALSE(std::filesystem::exists("/tmp/kvlingua-pwned"));
  EXPECT_NE(reason("hostile_missing_storage.pt").find("data/0"), std::string::npos);
  EXPECT_NE(reason("hostile_short_storage.pt").find("wrong size"), std::string::npos);
  EXPECT_NE(reason("hostile_compressed.pt").find("compressed"), std::string::npos);
  EXPECT_NE(reason("hostile_truncated.pt").find("zip"), std::string::npos);
  EXPECT_THROW(read_torch_archive("no-such-file.pt"), Error);
}

TEST(TorchArchive, OneFlippedByteInARecordIsFound) {
  std::ifstream in(data("state.pt"), std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), {});
  // The bytes of data/1, the float32 bias: 0, .125, .25.
  const char pattern[12] = {0, 0, 0, 0, 0, 0, 0, 0x3e, 0, 0, static_cast<char>(0x80), 0x3e};
  const size_t at = good.find(std::string(pattern, sizeof pattern));
  ASSERT_NE(at, std::string::npos);
  for (size_t i = 0; i < sizeof pattern; ++i) {
    std::string bad = good;
    bad[at + i] ^= 1;
    EXPECT_THROW(read_torch_archive(bad, "flipped"), Error) << i;
  }
}

TEST(TorchArchive, RoundTrip) {
  const std::vector<float> a{1, 2, 3, 4, 5, 6};
  const std::vector<uint16_t> b{0x3f80};
  const auto bytes = [](const auto& v) {
    return std::string_view(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(v[0]));
  };
  const std::string file = write_torch_archive({{"a", "float32", {2, 3}, bytes(a)},
                                                {"b", "bfloat16", {}, bytes(b)},
                                                {"empty", "int64", {0}, {}}});
  EXPECT_EQ(file, write_torch_archive({{"a", "float32", {2, 3}, bytes(a)},
                                       {"b", "bfloat16", {}, bytes(b)},
                                       {"empty", "int64", {0}, {}}}));
  const PtPointer root = read_torch_archive(file, "round trip");
  EXPECT_EQ(values<float>(root->find("a")->tensor), a);
  EXPECT_EQ(root->find("a")->tensor.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(values<uint16_t>(root->find("b")->tensor), b);
  EXPECT_EQ(root->find("empty")->tensor.contiguous_bytes().size(), 0u);
}

}  // namespace
}  // namespace kvlingua
