// Checkpoint: everything one folder `step-NNNNNN` holds. checkpoints/README.md has the format.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoints/train_state.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/manifest.h"
#include "kvlingua/projector/projector.h"

namespace kvlingua {

// A model as a checkpoint remembers it.
struct ModelIdentity {
  std::string name;
  std::string architecture;
  std::string weights;    // CausalLM::fingerprint()
  std::string tokenizer;  // Tokenizer::fingerprint()
  KvShape shape;
};

struct PairIdentity {
  ModelIdentity source, target;
  std::string alignment;

  nlohmann::json to_json() const;
  static PairIdentity from_json(const nlohmann::json& j, const std::string& where);
};

// States of torch's default generators.
struct RngState {
  at::Tensor cpu;
  std::vector<at::Tensor> cuda;  // one per device

  static RngState capture();
  void restore() const;
};

struct Checkpoint {
  TrainState state;
  PairIdentity pair;
  nlohmann::json projector_config;  // Projector::config()
  NamedTensors projector;           // Projector::state(): what evaluation loads
  NamedTensors optimizer;           // moments, master weights, averages; may be empty
  RngState rng;
  std::string recipe_yaml;  // resolved
  nlohmann::json made_by;   // Provenance::to_json(); null: not known

  // The same with every tensor copied to the CPU, so that training may go on while it is written.
  Checkpoint snapshot() const;
  int64_t bytes() const;
};

// How many numbers these tensors hold.
int64_t numbers_in(const NamedTensors& tensors);

// Writes the files into an existing folder, manifest last.
void write_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& folder);
// Throws Error when a floating-point tensor holds NaN or infinity.
void refuse_non_finite(const NamedTensors& tensors, const std::string& where, ExitCode code);
// The manifest of a checkpoint's folder. Throws Error (kCorrupt) when it does not list every file
// that a checkpoint has: what it does not list nobody checks.
Manifest load_checkpoint_manifest(const std::filesystem::path& folder);
// Checks every file against the manifest first. Throws Error (kCorrupt) naming the damaged file.
Checkpoint read_checkpoint(const std::filesystem::path& folder);

}  // namespace kvlingua
