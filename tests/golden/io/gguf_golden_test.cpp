// Blocks of every type against the gguf package (scripts/goldens/gguf_files.py): bit for bit.
#include "kvlingua/io/gguf.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <filesystem>

namespace kvlingua {
namespace {

class GgufBlocks : public ::testing::TestWithParam<GgufType> {};
INSTANTIATE_TEST_SUITE_P(Types, GgufBlocks,
                         ::testing::Values(GgufType::kF16, GgufType::kBF16, GgufType::kQ4_0,
                                           GgufType::kQ4_1, GgufType::kQ5_0, GgufType::kQ5_1,
                                           GgufType::kQ8_0, GgufType::kQ4_K, GgufType::kQ5_K,
                                           GgufType::kQ6_K),
                         [](const auto& info) { return std::string(to_string(info.param)); });

TEST_P(GgufBlocks, DequantiseAsTheReference) {
  const auto golden = SafetensorsFile::open(std::filesystem::path(KVLINGUA_TEST_DATA) / "gguf" /
                                            "blocks.safetensors");
  const std::string name(to_string(GetParam()));
  const SafetensorsView &bytes = golden.at(name + ".bytes"), &floats = golden.at(name + ".floats");
  std::vector<float> expected(static_cast<size_t>(floats.elements())), got(expected.size());
  std::memcpy(expected.data(), floats.data.data(), floats.data.size());
  ASSERT_EQ(bytes.shape[1], block_bytes(GetParam()));
  ASSERT_EQ(bytes.shape[0] * block_elements(GetParam()), floats.elements());
  dequantize(GetParam(), bytes.data, got);
  size_t different = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    different += std::bit_cast<uint32_t>(got[i]) != std::bit_cast<uint32_t>(expected[i]) ? 1 : 0;
  }
  EXPECT_EQ(different, 0U) << "of " << got.size();
}

}  // namespace
}  // namespace kvlingua
