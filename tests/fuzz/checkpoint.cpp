// layers: checkpoints trainers
// A checkpoint's folder with changed fields in any of its files and hashes that fit: refused, or
// what it says holds together and everything that reads it can.
#include "checkpoints/checkpoint.h"

#include <ATen/ATen.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "checkpoints/load_projector.h"
#include "checkpoints/provenance.h"
#include "checkpoints/store.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/manifest.h"
#include "kvlingua/projector/factory.h"
#include "mutations.h"
#include "trainers/engine/index_stream.h"

namespace {

using namespace kvlingua;
using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kFiles[] = {"state.json", "projector.json", "manifest.json",
                                  "projector.safetensors", "optimizer.safetensors"};

Checkpoint small(const std::string& kind) {
  ProjectorOptions options;
  options.kind = kind;
  options.mlp.hidden = 2;
  const auto projector = make_projector({2, 1, 2}, {1, 1, 2}, options);
  Checkpoint c;
  c.state.stage = "regression";
  c.state.step = c.state.global_step = 3;
  c.state.total_steps = 6;
  c.state.loader = IndexStream(8, 1).state();
  c.state.validation = ValidationNumbers{.kl = .5};
  c.state.results = {StageResult{.stage = "ridge", .steps = 1}};
  c.pair = {{"a", "A", "aa", "bb", {2, 1, 2}}, {"b", "B", "cc", "dd", {1, 1, 2}}, "last_char"};
  c.projector_config = projector->config();
  c.projector = projector->state();
  c.optimizer = {{"first_moment", at::zeros({4})}, {"steps", at::zeros({1}, at::kLong)}};
  c.rng = RngState::capture();
  c.recipe_yaml = "name: x\n";
  c.made_by = Provenance{{{"train.seed", 1}}, "pairs", "start"}.to_json();
  return c;
}

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The files of the valid folder, by kind of projector.
struct Valid {
  fs::path folder;
  std::map<std::string, std::string> files;
};

Valid valid(const std::string& kind) {
  Valid made{fuzz::scratch("checkpoint-" + kind) / "step-000003", {}};
  fs::create_directories(made.folder);
  write_checkpoint(small(kind), made.folder);
  for (const char* file : kFiles) made.files[file] = text_of(made.folder / file);
  return made;
}

// Changes the JSON of one file; of a safetensors file that of its header, and then a few bytes.
std::string changed(const std::string& file, const std::string& was, fuzz::Bytes& bytes) {
  if (!file.ends_with(".safetensors")) {
    json document = json::parse(was);
    fuzz::mutate(document, bytes);
    return document.dump(-1, ' ', false, json::error_handler_t::replace);
  }
  uint64_t length = 0;
  std::memcpy(&length, was.data(), sizeof length);
  std::string data = was.substr(8 + length), header = was.substr(8, length);
  if (bytes.byte() % 2 == 0) {
    json document = json::parse(header);
    fuzz::mutate(document, bytes);
    header = document.dump(-1, ' ', false, json::error_handler_t::replace);
  } else {
    for (int n = 1 + bytes.byte() % 8; n > 0 && !data.empty(); --n)
      data[bytes.below(static_cast<uint32_t>(data.size()))] = static_cast<char>(bytes.byte());
  }
  length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

void write(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

// Its own hashes, over files as they are now.
void seal(const fs::path& folder, const json& attributes) {
  Manifest manifest = Manifest::load(folder / "manifest.json");
  for (const ManifestEntry& entry : std::vector(manifest.entries()))
    manifest.set_file(folder, entry.path);
  if (!attributes.is_null()) manifest.attributes() = attributes;
  manifest.save(folder / "manifest.json");
}

void read(const fs::path& folder) {
  const Checkpoint c = read_checkpoint(folder);
  for (const auto& [name, tensor] : c.projector) {
    if (tensor.is_floating_point() && !tensor.isfinite().all().item<bool>()) std::abort();
  }
  const TrainState& s = c.state;
  if (s.step < 0 || s.global_step < 0 || s.tokens < 0) std::abort();
  TrainState::from_json(s.to_json(), "again");
  c.rng.restore();
  provenance_difference(c.made_by, {{{"train.seed", 2}}, "pairs", "start"});
  IndexStream stream(8, 1);
  try {
    stream.restore(c.state.loader);
    for (const int64_t i : stream.next(20)) {
      if (i < 0 || i >= 8) std::abort();
    }
  } catch (const Error&) {
  }
  const LoadedProjector loaded = load_projector(folder);
  if (loaded.projector->parameter_count() > 1 << 20) std::abort();
  tensors_sha256(*loaded.projector);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Valid kinds[] = {valid("mlp"), valid("ridge")};
  fuzz::Bytes bytes(data, size);
  const Valid& made = kinds[bytes.byte() % std::size(kinds)];
  const std::string file = kFiles[bytes.byte() % std::size(kFiles)];
  write(made.folder / "manifest.json", made.files.at("manifest.json"));
  json attributes;
  if (file == "manifest.json") {
    attributes = json::parse(made.files.at(file))["attributes"];
    fuzz::mutate(attributes, bytes);
  } else {
    write(made.folder / file, changed(file, made.files.at(file), bytes));
  }
  for (const bool whole : {true, false}) {
    try {
      if (whole) {
        seal(made.folder, attributes);
        read(made.folder);
      } else {
        projector_sha256(made.folder);
        find_checkpoint(made.folder.parent_path(), nullptr, "regression");
      }
    } catch (const Error& error) {
      if (error.code() != ExitCode::kCorrupt && error.code() != ExitCode::kInput) std::abort();
    } catch (const json::exception&) {
      if (file != "manifest.json") std::abort();  // attributes that cannot be written
    }
  }
  write(made.folder / file, made.files.at(file));
  return 0;
}
