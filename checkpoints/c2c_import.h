// Cache-to-Cache checkpoint folders in both directions (its projector_<i>.pt, projector_<i>.json,
// projector_config.json).
//
// Strict where the reference is lenient: missing, extra and mis-shaped tensors, differing
// init_args, unmapped layers and a projector count that does not match are refused. Nothing of a
// `.pt` is executed (io/torch_archive.h). Words there: base / receiver = target, teacher / sharer =
// source. Knows no recipe and no trainer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "kvlingua/projector/c2c_fuser.h"

namespace kvlingua {

// The shapes of the models it must fit; without them they are taken from the files (the source's
// layer count is then one more than the largest layer the mapping names).
struct C2CShapes {
  KvShape source, target;
};

// `directory` holds the projector files themselves (`final/` or `checkpoint-N/`), or is a folder
// with a `final/` in it. Weights keep the dtype they are stored in. Throws Error: kInput for what
// does not fit, kCorrupt for damaged files.
C2CFuser read_c2c_directory(const std::filesystem::path& directory,
                            const std::optional<C2CShapes>& expected = std::nullopt,
                            at::Device device = at::kCPU);

// Writes a folder the reference's loader reads. The folder appears whole or not at all.
void write_c2c_directory(const C2CFuser& fuser, const std::filesystem::path& directory);

// The optimizer moments of training_state.pt, stacked as C2CFuser::parameters(); the reference
// writes that file and never reads it.
struct C2CTrainingState {
  int64_t step = 0;
  int64_t epoch = 0;
  double learning_rate = 0;
  // exp_avg, exp_avg_sq per parameter of the fuser.
  std::vector<std::pair<at::Tensor, at::Tensor>> moments;
};
C2CTrainingState read_c2c_training_state(const std::filesystem::path& file, const C2CFuser& fuser);

}  // namespace kvlingua
