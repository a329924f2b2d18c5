// From a folder on disk to a projector that can translate: what evaluation, export and `inspect`
// call.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "kvlingua/model/causal_lm.h"
#include "kvlingua/projector/projector.h"

namespace kvlingua {

struct LoadedProjector {
  std::unique_ptr<Projector> projector;
  PairIdentity pair;
  std::string stage;  // that it comes from
  int64_t global_step = 0;
  std::filesystem::path path;        // the checkpoint's folder
  std::vector<std::string> skipped;  // newer checkpoints that were damaged, one line each
  std::string recipe_yaml;
  nlohmann::json made_by;  // Provenance::to_json(); null: not known
  bool stage_finished = false;
  int64_t step = 0, total_steps = 0;  // of that stage
  int64_t tokens = 0;                 // target tokens (rows) that it has seen

  // Throws Error (kInput) naming both shapes, or both fingerprints, when these are not the models
  // it was trained for. Weights and tokenizer are compared when `strict`.
  void check_models(const CausalLM& source, const CausalLM& target, bool strict = true) const;
};

// `path`: a checkpoint's folder, or a run's (then its newest whole checkpoint, or of `stage` the
// newest). Throws Error: kInput when there is none, kCorrupt when it is damaged.
LoadedProjector load_projector(const std::filesystem::path& path, at::Device device = at::kCPU,
                               at::ScalarType dtype = at::kFloat, const std::string& stage = {});

// Of the names and bytes of all its tensors, in the order of state(): what tells two projectors
// apart wherever they lie.
std::string tensors_sha256(const Projector& projector);

}  // namespace kvlingua
