#include "checkpoints/load_projector.h"

#include <ATen/ATen.h>

#include <map>

#include "checkpoints/store.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/projector/factory.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

void check_model(const char* role, const ModelIdentity& trained, const CausalLM& given, bool strict,
                 const fs::path& path) {
  const std::string where = cat(path.string(), ": ", role, " model");
  if (given.kv_shape() != trained.shape) {
    throw Error(
        {.code = ExitCode::kInput,
         .where = where,
         .what = "the projector was made for another cache shape",
         .got = given.kv_shape().describe(),
         .expected = cat(trained.shape.describe(), " (", trained.name, ")"),
         .remedy = "name the pair the checkpoint was trained for, or train one for this pair"});
  }
  if (strict && !trained.weights.empty() && given.fingerprint() != trained.weights) {
    throw Error(
        {.code = ExitCode::kInput,
         .where = where,
         .what = "the checkpoint is of another pair: the weights differ",
         .got = given.fingerprint().substr(0, 16),
         .expected = cat(trained.weights.substr(0, 16), " (", trained.name, ")"),
         .remedy = "name the pair the checkpoint was trained for, or train one for this pair"});
  }
}

}  // namespace

void LoadedProjector::check_models(const CausalLM& source, const CausalLM& target,
                                   bool strict) const {
  check_model("source", pair.source, source, strict, path);
  check_model("target", pair.target, target, strict, path);
}

LoadedProjector load_projector(const fs::path& named, at::Device device, at::ScalarType dtype,
                               const std::string& stage) {
  const fs::path path = follow_link(named);
  LoadedProjector loaded;
  loaded.path = path;
  const fs::path control =
      path / stage;  // a folder of its own, not a link to a step: ridge_aligned
  if (!stage.empty() && !fs::is_symlink(control) && fs::exists(control / "projector.json")) {
    loaded.path = control;
  } else if (!fs::exists(path / "projector.json")) {
    const auto found = find_checkpoint(path, &loaded.skipped, stage);
    if (!found) {
      throw Error({.code = loaded.skipped.empty() ? ExitCode::kInput : ExitCode::kCorrupt,
                   .where = path.string(),
                   .what = stage.empty() ? "holds no whole checkpoint"
                                         : cat("holds no whole checkpoint of stage ", stage),
                   .got = loaded.skipped.empty() ? "none" : loaded.skipped.front(),
                   .remedy = "run `kvlingua train` first"});
    }
    loaded.path = found->path;
  }
  Checkpoint checkpoint = read_checkpoint(loaded.path);
  const std::string where = (loaded.path / "projector.json").string();
  loaded.projector =
      projector_from_config(checkpoint.projector_config, where, numbers_in(checkpoint.projector));
  std::map<std::string, at::Tensor> tensors(checkpoint.projector.begin(),
                                            checkpoint.projector.end());
  loaded.projector->load_state(tensors, (loaded.path / "projector.safetensors").string());
  loaded.projector->to(device, dtype);
  loaded.pair = checkpoint.pair;
  loaded.stage = checkpoint.state.stage;
  loaded.global_step = checkpoint.state.global_step;
  loaded.recipe_yaml = checkpoint.recipe_yaml;
  loaded.made_by = checkpoint.made_by;
  loaded.stage_finished = checkpoint.state.stage_finished;
  loaded.step = checkpoint.state.step;
  loaded.total_steps = checkpoint.state.total_steps;
  loaded.tokens = checkpoint.state.tokens;
  log_debug(cat("projector ", loaded.path.string(), ": stage ", loaded.stage, ", step ",
                loaded.step, " of ", loaded.total_steps));
  return loaded;
}

std::string tensors_sha256(const Projector& projector) {
  Sha256 hash;
  for (const auto& [name, tensor] : projector.state()) {
    const at::Tensor bytes = tensor.to(at::kCPU).contiguous();
    hash.update(name);
    hash.update(bytes.const_data_ptr(), bytes.nbytes());
  }
  return hash.hex();
}

}  // namespace kvlingua
