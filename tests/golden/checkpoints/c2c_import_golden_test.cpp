// Checkpoint folders written by Cache-to-Cache's own code (scripts/goldens/c2c_training.py) in and
// out again.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoints/c2c_import.h"
#include "checkpoints/interchange.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/torch_archive.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
const fs::path kData = fs::path(KVLINGUA_TEST_DATA) / "c2c" / "training";

void expect_same_tensors(const fs::path& a, const fs::path& b) {
  const PtPointer x = read_torch_archive(a), y = read_torch_archive(b);
  ASSERT_EQ(x->entries.size(), y->entries.size());
  for (size_t i = 0; i < x->entries.size(); ++i) {
    EXPECT_EQ(x->entries[i].first->text, y->entries[i].first->text) << "order of the state_dict";
    const PtTensor &s = x->entries[i].second->tensor, &t = y->entries[i].second->tensor;
    EXPECT_EQ(s.dtype, t.dtype);
    EXPECT_EQ(s.shape, t.shape);
    EXPECT_EQ(s.contiguous_bytes(), t.contiguous_bytes()) << x->entries[i].first->text;
  }
}

// Both of its classes.
class C2CRoundTripGolden : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Classes, C2CRoundTripGolden, ::testing::Values("training", "all_in_one"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(C2CRoundTripGolden, RoundTripOfItsOwnFilesIsBitEqual) {
  const fs::path data = fs::path(KVLINGUA_TEST_DATA) / "c2c" / GetParam();
  const C2CFuser fuser = read_c2c_directory(data / "trained", C2CShapes{{2, 1, 8}, {3, 2, 16}});
  EXPECT_EQ(fuser.config().source_layer, (std::vector<int64_t>{0, 0, 1}));
  EXPECT_EQ(fuser.config().anneal_steps, 8);
  const fs::path out = fs::temp_directory_path() / "kvlingua_c2c_round_trip";
  write_c2c_directory(fuser, out);
  for (int i = 0; i < 3; ++i) {
    const std::string name = cat("projector_", i, ".pt");
    expect_same_tensors(data / "trained" / name, out / name);
  }
  fs::remove_all(out);
}

TEST_P(C2CRoundTripGolden, InAsACheckpointAndOutAgainIsBitEqual) {
  const fs::path data = fs::path(KVLINGUA_TEST_DATA) / "c2c" / GetParam();
  const fs::path root = fs::temp_directory_path() / "kvlingua_c2c_interchange";
  fs::remove_all(root);
  fs::create_directories(root);
  import_checkpoint("c2c", data / "trained", root / "checkpoint");
  export_checkpoint("c2c", root / "checkpoint", root / "folder");
  for (int i = 0; i < 3; ++i) {
    const std::string name = cat("projector_", i, ".pt");
    expect_same_tensors(data / "trained" / name, root / "folder" / name);
  }
  export_checkpoint("safetensors", root / "checkpoint", root / "plain");
  EXPECT_TRUE(fs::exists(root / "plain" / "SHA256SUMS"));
  EXPECT_THROW(export_checkpoint("safetensors", root / "checkpoint", root / "plain"),
               Error);  // exists
  EXPECT_THROW(import_checkpoint("gguf", data / "trained", root / "other"), Error);
  fs::remove_all(root);
}

TEST(C2CImportGolden, OptimizerState) {
  const C2CFuser fuser = read_c2c_directory(kData / "trained");
  const C2CTrainingState state =
      read_c2c_training_state(kData / "trained" / "training_state.pt", fuser);
  EXPECT_EQ(state.step, 10);
  EXPECT_EQ(state.moments.size(), fuser.parameters().size());
  // Parameter 0 of the optimizer is the key gate of layer 0, parameter 6 key_in.weight of layer 0;
  // see param_groups.
  const PtPointer raw = read_torch_archive(kData / "trained" / "training_state.pt");
  const auto& states = raw->find("optimizer_state_dict")->find("state")->entries;
  const auto bytes_of = [](const at::Tensor& t) {
    const at::Tensor c = t.contiguous();
    const auto* p = static_cast<const std::byte*>(c.const_data_ptr());
    return std::vector<std::byte>(p, p + c.numel() * c.element_size());
  };
  for (size_t i = 0; i < fuser.parameters().size(); ++i) {
    const auto& name = fuser.parameters()[i].first;
    if (name == "gate_logit") {
      EXPECT_EQ(bytes_of(state.moments[i].first.select(0, 0)),
                states[0].second->find("exp_avg")->tensor.contiguous_bytes());
    }
    if (name == "in.weight") {
      EXPECT_EQ(bytes_of(state.moments[i].second.select(0, 0)),
                states[6].second->find("exp_avg_sq")->tensor.contiguous_bytes());
    }
  }
  EXPECT_THROW(read_c2c_training_state(kData / "trained" / "projector_0.pt", fuser), Error);
}

}  // namespace
}  // namespace kvlingua
