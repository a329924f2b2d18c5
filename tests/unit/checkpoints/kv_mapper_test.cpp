// The router's mapper artifact: read back, its maps give what the projector gives.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoints/checkpoint.h"
#include "checkpoints/interchange.h"
#include "kvlingua/base/error.h"
#include "kvlingua/cache/tensor_file.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/ridge.h"
#include "support/temp_dir.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
const KvShape kSource{5, 4, 6}, kTarget{3, 2, 8};

void save(const Projector& projector, const fs::path& folder) {
  Checkpoint checkpoint;
  checkpoint.state.stage = projector.kind();
  checkpoint.state.stage_finished = true;
  checkpoint.pair.source = {.name = "small", .shape = projector.source_shape()};
  checkpoint.pair.target = {.name = "large", .shape = projector.target_shape()};
  checkpoint.projector_config = projector.config();
  checkpoint.projector = projector.state();
  checkpoint.rng = RngState::capture();
  make_directories(folder);
  write_checkpoint(checkpoint, folder);
}

// Random everything, so that a fold left out shows.
std::unique_ptr<RidgeProjector> random_ridge(const RidgeOptions& options) {
  at::manual_seed(7);
  auto ridge = std::make_unique<RidgeProjector>(kSource, kTarget, options);
  for (const auto& [name, tensor] : ridge->state()) {
    if (!tensor.is_floating_point()) continue;
    tensor.copy_(name.ends_with("deviation") ? at::rand_like(tensor) + .5 : at::randn_like(tensor));
  }
  return ridge;
}

TEST(KvMapper, ReadBackItGivesWhatTheProjectorGives) {
  const TempDir dir;
  int number = 0;
  for (const char* layout : {"full", "head_matched"}) {
    for (const char* features : {"same", "both"}) {
      for (const int64_t layers : {0, 2}) {
        const auto ridge = random_ridge({.source_layers = layers,
                                         .selection = "aligned",
                                         .layout = layout,
                                         .features = features});
        const fs::path from = dir / cat("ridge", number), out = dir / cat("mapper", number);
        ++number;
        save(*ridge, from);
        export_checkpoint("vllm", from, out);

        std::ifstream in(out / "manifest.json");
        const auto manifest = nlohmann::json::parse(in);
        EXPECT_EQ(manifest["source"]["n_kv_heads"], 4);
        EXPECT_EQ(manifest["layers"].size(), 3u);
        const auto tensors = read_tensors(out / "weights.safetensors");
        EXPECT_EQ(tensors.size(), 12u);
        const CacheRows rows{at::randn({9, 5, 4, 6}), at::randn({9, 5, 4, 6})};
        const CacheRows expected = ridge->translate_rows(rows);
        for (int64_t layer = 0; layer < 3; ++layer) {
          for (const std::string part : {"k", "v"}) {
            std::vector<at::Tensor> x;
            for (const auto& input : manifest["layers"][layer][part]["inputs"]) {
              const CacheRows& r = rows;
              const at::Tensor& side = input["part"] == "k" ? r.keys_NLHD : r.values_NLHD;
              x.push_back(side.select(1, input["layer"].get<int64_t>()).reshape({9, -1}));
            }
            if (layers > 0) {
              EXPECT_EQ(x.size(), (std::string(features) == "both" ? 4u : 2u));
            }
            const std::string name = cat("target.", layer, ".", part);
            const at::Tensor y =
                at::matmul(at::cat(x, 1), tensors.at(name + ".W")) + tensors.at(name + ".b");
            const at::Tensor& want = part == "k" ? expected.keys_NLHD : expected.values_NLHD;
            EXPECT_LT((y - want.select(1, layer).reshape({9, -1})).abs().max().item<double>(), 2e-4)
                << name << ' ' << layout << ' ' << features << ' ' << layers;
          }
        }
        std::ifstream sums(out / "SHA256SUMS");
        std::string sum, file;
        int files = 0;
        while (sums >> sum >> file) {
          EXPECT_EQ(sum, sha256_file(out / file)) << file;
          ++files;
        }
        EXPECT_EQ(files, 2);
      }
    }
  }
}

// Its layers beyond the source's own are tokens before, which a manifest of layers cannot name.
TEST(KvMapper, RefusesPreviousTokens) {
  const TempDir dir;
  save(*random_ridge({.previous_tokens = 2}), dir / "ridge");
  try {
    export_checkpoint("vllm", dir / "ridge", dir / "out");
    FAIL() << "exported";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("previous_tokens 2"));
    EXPECT_EQ(error.code(), ExitCode::kUsage);
  }
}

TEST(KvMapper, RefusesWhatIsNotLinear) {
  const TempDir dir;
  ProjectorOptions options;
  options.kind = "mlp";
  save(*make_projector(kSource, kTarget, options), dir / "mlp");
  try {
    export_checkpoint("vllm", dir / "mlp", dir / "out");
    FAIL() << "exported";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("kind mlp"));
    EXPECT_THAT(error.what(), ::testing::Not(::testing::HasSubstr("\n")));
    EXPECT_EQ(error.code(), ExitCode::kUsage);
  }
  EXPECT_FALSE(fs::exists(dir / "out"));
  EXPECT_FALSE(fs::exists(dir / "out.partial"));
}

}  // namespace
}  // namespace kvlingua
