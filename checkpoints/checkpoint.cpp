#include "checkpoints/checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <torch/version.h>

#include <cmath>
#include <set>

#include "kvlingua/base/error.h"
#include "kvlingua/cache/tensor_file.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/json_number.h"
#include "kvlingua/io/manifest.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kFormatVersion = 1;
constexpr const char* kProjectorTensors = "projector.safetensors";
constexpr const char* kProjectorConfig = "projector.json";
constexpr const char* kOptimizerTensors = "optimizer.safetensors";
constexpr const char* kState = "state.json";
constexpr const char* kRecipe = "recipe.yaml";
const char* const kFiles[] = {kProjectorTensors, kProjectorConfig, kOptimizerTensors, kState,
                              kRecipe};

json model_json(const ModelIdentity& m) {
  return {{"name", m.name},
          {"architecture", m.architecture},
          {"weights", m.weights},
          {"tokenizer", m.tokenizer},
          {"layers", m.shape.layers},
          {"kv_heads", m.shape.kv_heads},
          {"head_dim", m.shape.head_dim}};
}

ModelIdentity model_from(const json& j) {
  const auto text = [&](const char* name) { return read_member(j, name, text_of_json); };
  const auto extent = [&](const char* name) {
    return read_member(j, name, [](const json& v) { return whole_number(v, 0, 1 << 20); });
  };
  return {text("name"),
          text("architecture"),
          text("weights"),
          text("tokenizer"),
          {extent("layers"), extent("kv_heads"), extent("head_dim")}};
}

std::string text_of(const fs::path& path) { return read_text_file(path); }

json json_of(const fs::path& path) { return parse_json(text_of(path), path.string()); }

NamedTensors on_cpu(const NamedTensors& tensors) {
  NamedTensors copies;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor here = tensor.detach();
    copies.emplace_back(name, here.is_cpu() ? here.clone() : here.to(at::kCPU));
  }
  return copies;
}

int64_t bytes_of(const NamedTensors& tensors) {
  int64_t total = 0;
  for (const auto& [name, tensor] : tensors) total += static_cast<int64_t>(tensor.nbytes());
  return total;
}

}  // namespace

json PairIdentity::to_json() const {
  return {{"source", model_json(source)}, {"target", model_json(target)}, {"alignment", alignment}};
}

PairIdentity PairIdentity::from_json(const json& j, const std::string& where) {
  try {
    return {read_member(j, "source", model_from), read_member(j, "target", model_from),
            read_member(j, "alignment", text_of_json)};
  } catch (const json::exception& error) {
    throw corrupt_field(error, where, "does not name its models",
                        "use an older checkpoint of the run");
  }
}

RngState RngState::capture() {
  RngState state;
  at::Context& context = at::globalContext();
  state.cpu = context.defaultGenerator(at::kCPU).get_state();
  if (context.hasCUDA()) {
    const int64_t devices = static_cast<int64_t>(at::getNumGPUs());
    for (int64_t i = 0; i < devices; ++i) {
      const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(i));
      state.cuda.push_back(context.defaultGenerator(device).get_state());
    }
  }
  return state;
}

void RngState::restore() const {
  at::Context& context = at::globalContext();
  if (cpu.defined()) {
    at::Generator generator = context.defaultGenerator(at::kCPU);
    generator.set_state(cpu);
  }
  const int64_t devices = context.hasCUDA() ? static_cast<int64_t>(at::getNumGPUs()) : 0;
  for (int64_t i = 0; i < devices && i < static_cast<int64_t>(cuda.size()); ++i) {
    const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(i));
    at::Generator generator = context.defaultGenerator(device);
    generator.set_state(cuda[static_cast<size_t>(i)]);
  }
}

Checkpoint Checkpoint::snapshot() const {
  Checkpoint copy = *this;
  copy.projector = on_cpu(projector);
  copy.optimizer = on_cpu(optimizer);
  return copy;
}

int64_t numbers_in(const NamedTensors& tensors) {
  int64_t total = 0;
  for (const auto& [name, tensor] : tensors) total += tensor.numel();
  return total;
}

int64_t Checkpoint::bytes() const { return bytes_of(projector) + bytes_of(optimizer); }

namespace {

// A sum is finite only if all its terms are; only when it is not, each is looked at.
bool all_finite(const at::Tensor& tensor) {
  if (!tensor.is_floating_point() || tensor.numel() == 0) return true;
  const at::NoGradGuard no_grad;
  return std::isfinite(tensor.sum(at::kFloat).item<float>()) ||
         tensor.isfinite().all().item<bool>();
}

}  // namespace

void refuse_non_finite(const NamedTensors& tensors, const std::string& where, ExitCode code) {
  for (const auto& [name, tensor] : tensors) {
    if (all_finite(tensor)) continue;
    throw Error({.code = code,
                 .where = cat(where, ": tensor ", printable(name)),
                 .what = "NaN or infinity among the weights",
                 .remedy = code == ExitCode::kCorrupt
                               ? "use an older checkpoint"
                               : "look at the data and at the learning rate; nothing was saved"});
  }
}

void write_checkpoint(const Checkpoint& checkpoint, const fs::path& folder) {
  refuse_non_finite(checkpoint.projector, cat("stage ", checkpoint.state.stage), ExitCode::kFailed);
  write_tensors(folder / kProjectorTensors, checkpoint.projector, {{"format", "kvlingua"}});
  const json projector = {{"format_version", kFormatVersion},
                          {"projector", checkpoint.projector_config},
                          {"pair", checkpoint.pair.to_json()}};
  write_file_atomic(folder / kProjectorConfig, projector.dump(2) + "\n");
  NamedTensors training = checkpoint.optimizer;
  if (checkpoint.rng.cpu.defined()) training.emplace_back("rng.cpu", checkpoint.rng.cpu);
  for (size_t i = 0; i < checkpoint.rng.cuda.size(); ++i) {
    training.emplace_back("rng.cuda." + std::to_string(i), checkpoint.rng.cuda[i]);
  }
  write_tensors(folder / kOptimizerTensors, training);
  write_file_atomic(folder / kState, checkpoint.state.to_json().dump(2) + "\n");
  write_file_atomic(folder / kRecipe, checkpoint.recipe_yaml);

  Manifest manifest;
  for (const char* file : kFiles) manifest.set_file(folder, file);
  const TrainState& state = checkpoint.state;
  json& attributes = manifest.attributes();
  attributes["format_version"] = kFormatVersion;
  attributes["stage"] = state.stage;
  attributes["stage_finished"] = state.stage_finished;
  attributes["step"] = state.step;
  attributes["global_step"] = state.global_step;
  // Only where this very checkpoint is the best so far.
  const bool best = state.best_score && state.best_step == state.step;
  attributes["score"] = best ? json(*state.best_score) : json(nullptr);
  attributes["recipe_sha256"] = sha256_hex(checkpoint.recipe_yaml);
  if (!checkpoint.made_by.is_null()) attributes["made_by"] = checkpoint.made_by;
  attributes["versions"] = {{"kvlingua", KVLINGUA_VERSION}, {"torch", TORCH_VERSION}};
  manifest.save(folder / std::string(Manifest::kFileName));
}

namespace {

[[noreturn]] void refuse_rng(const std::string& where, const std::string& name, std::string got,
                             std::string expected = {}) {
  throw Error({.code = ExitCode::kCorrupt,
               .where = cat(where, ": tensor ", name),
               .what = "not the state of a generator",
               .got = std::move(got),
               .expected = std::move(expected),
               .remedy = "use an older checkpoint of the run"});
}

// A state that torch's generator takes: it refuses others in words of its own, or believes them.
void check_rng(const at::Tensor& state, const std::string& where) {
  try {
    at::Generator scratch = at::detail::createCPUGenerator();
    scratch.set_state(state);
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    refuse_rng(where, "rng.cpu", printable(text.substr(0, text.find('\n')), 120));
  }
}

// A CUDA generator's is its seed and its offset; there need be no such device here.
void check_cuda_rng(const std::string& name, const at::Tensor& state, const std::string& where) {
  if (state.scalar_type() == at::kByte && state.dim() == 1 && state.numel() == 16) return;
  refuse_rng(where, printable(name),
             cat(state.numel(), " numbers of ", at::toString(state.scalar_type())), "16 bytes");
}

// Whatever the projector is; whether they fit this one the optimizer says (FlatAdamW::load_state).
void check_optimizer(const NamedTensors& tensors, const std::string& where) {
  int64_t moments = -1;
  for (const auto& [name, tensor] : tensors) {
    const auto refuse = [&, &named = name](const char* what, std::string got,
                                           std::string expected) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = cat(where, ": tensor ", printable(named)),
                   .what = what,
                   .got = std::move(got),
                   .expected = std::move(expected),
                   .remedy = "use an older checkpoint, or --restart"});
    };
    const at::ScalarType type = tensor.scalar_type();
    if (name == "steps") {
      if (type != at::kLong || tensor.numel() != 1)
        refuse("wrong element type or shape", cat(at::toString(type), " ", tensor.sizes()),
               "Long [1]");
      continue;
    }
    if (type != at::kFloat && type != at::kBFloat16 && type != at::kHalf)
      refuse("wrong element type", at::toString(type), "Float, BFloat16 or Half");
    const bool moment = name == "first_moment" || name == "second_moment";
    if (moment && (tensor.dim() != 1 || (moments >= 0 && tensor.numel() != moments)))
      refuse("wrong shape", cat(tensor.sizes()),
             moments < 0 ? "one dimension" : cat("[", moments, "], the other moment's"));
    if (moment) moments = tensor.numel();
    refuse_non_finite({{name, tensor}}, where, ExitCode::kCorrupt);
    if (name == "second_moment" && tensor.lt(0).any().item<bool>())
      refuse("a mean of squares below 0", cat(tensor.min().item<double>()), "0 or more");
  }
}

}  // namespace

Manifest load_checkpoint_manifest(const fs::path& folder) {
  const fs::path file = folder / std::string(Manifest::kFileName);
  Manifest manifest = Manifest::load(file);
  for (const char* name : kFiles) {
    if (manifest.find(name) != nullptr) continue;
    throw Error({.code = ExitCode::kCorrupt,
                 .where = file.string(),
                 .what = cat("does not list ", name),
                 .expected = "the files of a checkpoint",
                 .remedy = "use an older checkpoint of the run"});
  }
  return manifest;
}

Checkpoint read_checkpoint(const fs::path& folder) {
  const Manifest manifest = load_checkpoint_manifest(folder);
  const auto damage = manifest.verify(folder);
  if (!damage.empty()) {
    throw Error(
        {.code = ExitCode::kCorrupt,
         .where = (folder / damage[0].path).string(),
         .what = damage[0].reason,
         .remedy = "use an older checkpoint of the run; the next `train` does so by itself"});
  }
  Checkpoint checkpoint;
  checkpoint.state = TrainState::from_json(json_of(folder / kState), (folder / kState).string());
  const std::string where = (folder / kProjectorConfig).string();
  const json description = json_of(folder / kProjectorConfig);
  if (!description.is_object() || !description.contains("projector") ||
      !description.contains("pair") || !description.contains("format_version") ||
      description["format_version"] != kFormatVersion) {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = where,
                 .what = "not a checkpoint of this version",
                 .got = description.is_object() && description.contains("format_version")
                            ? printable(description["format_version"].dump(), 60)
                            : "none",
                 .expected = cat("format_version ", kFormatVersion),
                 .remedy = "use an older checkpoint of the run"});
  }
  checkpoint.projector_config = description["projector"];
  checkpoint.pair = PairIdentity::from_json(description["pair"], where);
  for (auto& [name, tensor] : read_tensors(folder / kProjectorTensors)) {
    checkpoint.projector.emplace_back(name, tensor);
  }
  refuse_non_finite(checkpoint.projector, (folder / kProjectorTensors).string(),
                    ExitCode::kCorrupt);
  for (auto& [name, tensor] : read_tensors(folder / kOptimizerTensors)) {
    if (name == "rng.cpu") {
      check_rng(tensor, (folder / kOptimizerTensors).string());
      checkpoint.rng.cpu = tensor;
    } else if (name.starts_with("rng.cuda.")) {
      check_cuda_rng(name, tensor, (folder / kOptimizerTensors).string());
      checkpoint.rng.cuda.push_back(tensor);  // names sort in the order of devices below ten
    } else {
      checkpoint.optimizer.emplace_back(name, tensor);
    }
  }
  check_optimizer(checkpoint.optimizer, (folder / kOptimizerTensors).string());
  checkpoint.recipe_yaml = text_of(folder / kRecipe);
  if (manifest.attributes().contains("made_by"))
    checkpoint.made_by = manifest.attributes()["made_by"];
  return checkpoint;
}

}  // namespace kvlingua
