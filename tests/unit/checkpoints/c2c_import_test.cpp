#include "checkpoints/c2c_import.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

C2CFuser small(at::ScalarType dtype = at::kBFloat16) {
  C2CConfig config;
  config.source = {3, 1, 4};
  config.target = {2, 2, 3};
  config.source_layer = map_layers(LayerMapping::kLastAligned, 2, 3);
  config.hidden_dim = 6;
  config.intermediate_dim = 5;
  return C2CFuser(config, at::kCPU, dtype, 11);
}

class C2CImport : public ::testing::Test {
 protected:
  void SetUp() override { write_c2c_directory(small(), dir_); }
  void TearDown() override { fs::remove_all(dir_); }
  std::string refusal(const std::optional<C2CShapes>& shapes = std::nullopt) const {
    try {
      read_c2c_directory(dir_, shapes);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }
  void replace(const std::string& file, const std::string& from, const std::string& to) const {
    std::ifstream in(dir_ / file);
    std::string text((std::istreambuf_iterator<char>(in)), {});
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << text;
    std::ofstream(dir_ / file) << text.replace(at, from.size(), to);
  }
  const fs::path dir_ = fs::temp_directory_path() / "kvlingua_c2c_import_test";
};

TEST_F(C2CImport, RoundTripIsBitEqual) {
  const C2CFuser back = read_c2c_directory(dir_, C2CShapes{{3, 1, 4}, {2, 2, 3}});
  const C2CFuser original = small();
  for (int64_t layer = 0; layer < 2; ++layer) {
    const auto a = original.layer_state(layer), b = back.layer_state(layer);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].first, b[i].first);
      EXPECT_TRUE(at::equal(a[i].second, b[i].second)) << a[i].first;
    }
  }
  EXPECT_EQ(back.config().source_layer, original.config().source_layer);
}

TEST_F(C2CImport, WhatDoesNotFitIsRefused) {
  EXPECT_EQ(refusal(), "accepted");
  EXPECT_NE(refusal(C2CShapes{{3, 1, 4}, {3, 2, 3}}).find("does not match the target model"),
            std::string::npos);
  EXPECT_NE(refusal(C2CShapes{{2, 1, 4}, {2, 2, 3}}).find("past the source model"),
            std::string::npos);
  EXPECT_NE(refusal(C2CShapes{{3, 2, 4}, {2, 2, 3}}).find("source model's cache does not fit"),
            std::string::npos);
}

TEST_F(C2CImport, DamagedFoldersAreRefused) {
  replace("projector_1.json", "\"hidden_dim\": 6", "\"hidden_dim\": 7");
  EXPECT_NE(refusal().find("differs from projector_0.json"), std::string::npos) << refusal();
  SetUp();
  replace("projector_0.json", "C2CProjector", "EvilProjector");
  EXPECT_NE(refusal().find("EvilProjector"), std::string::npos);
  SetUp();
  replace("projector_0.json", "\"dropout\"", "\"dropuot\"");
  EXPECT_NE(refusal().find("dropuot"), std::string::npos);
  SetUp();
  replace("projector_0.json", "\"dropout\": 0.1", "\"dropout\": 1.5");
  EXPECT_NE(refusal().find("from 0, below 1"), std::string::npos) << refusal();
  SetUp();
  replace("projector_0.json", "bfloat16", "float32");
  replace("projector_1.json", "bfloat16", "float32");
  EXPECT_NE(refusal().find("wrong dtype"), std::string::npos) << refusal();
  SetUp();
  fs::remove(dir_ / "projector_0.pt");
  EXPECT_NE(refusal().find("gap"), std::string::npos) << refusal();
  SetUp();
  fs::copy(dir_ / "projector_0.pt", dir_ / "projector_2.pt");
  EXPECT_NE(refusal().find("differs from that of projector files"), std::string::npos) << refusal();
  SetUp();
  replace("projector_config.json", "\"0\": [\n        [\n          1,\n          0",
          "\"0\": [\n        [\n          1,\n          1");
  EXPECT_NE(refusal().find("not used exactly once"), std::string::npos) << refusal();
  fs::remove_all(dir_);
  EXPECT_NE(refusal().find("no such folder"), std::string::npos);
}

// Of the older class, what no recipe uses is refused by name.
TEST_F(C2CImport, OptionsOfTheOlderClassThatAreNotSupported) {
  C2CConfig config = small().config();
  config.all_in_one.emplace();
  const C2CFuser older(config, at::kCPU, at::kBFloat16, 11);
  const auto with = [&](const std::string& from, const std::string& to) {
    fs::remove_all(dir_);
    write_c2c_directory(older, dir_);
    for (const char* file : {"projector_0.json", "projector_1.json"}) replace(file, from, to);
    return refusal();
  };
  EXPECT_EQ(with("gelu", "silu"), "accepted");
  EXPECT_NE(with("gelu", "tanh").find("gelu, relu, silu"), std::string::npos);
  EXPECT_NE(with("\"scalar\"", "\"token\"").find("weight_granularity"), std::string::npos);
  EXPECT_NE(with("\"scalar\"", "\"head_merged\"").find("weight_granularity"), std::string::npos);
  EXPECT_NE(with("\"hidden_dim\": 6,", "\"hidden_dim\": 6, \"gate_depends_on_input\": true,")
                .find("gate_depends_on_input"),
            std::string::npos);
  EXPECT_NE(with("\"scalar_temperature\": 0.005", "\"scalar_temperature\": 0").find("above 0"),
            std::string::npos);
}

}  // namespace
}  // namespace kvlingua
