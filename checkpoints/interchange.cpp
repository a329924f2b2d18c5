#include "checkpoints/interchange.h"

#include <ATen/ATen.h>

#include <map>

#include "checkpoints/c2c_import.h"
#include "checkpoints/checkpoint.h"
#include "checkpoints/kv_mapper.h"
#include "checkpoints/store.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/copy_file.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/projector/c2c.h"
#include "kvlingua/projector/factory.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

// "out/" names the folder "out".
fs::path without_slash(const fs::path& named) {
  return named.has_filename() || !named.has_parent_path() ? named : named.parent_path();
}

void refuse_existing(const fs::path& out) {
  if (!fs::exists(out)) return;
  throw Error({.code = ExitCode::kInput,
               .where = out.string(),
               .what = "exists already",
               .remedy = "name a folder that does not, or remove it"});
}

[[noreturn]] void unknown_format(const std::string& verb, const std::string& got,
                                 const std::string& known) {
  throw Error({.code = ExitCode::kUsage,
               .where = verb,
               .what = "unknown format",
               .got = printable(got),
               .expected = known});
}

fs::path checkpoint_folder(const fs::path& named) {
  const fs::path path = follow_link(named);
  if (fs::exists(path / "projector.json")) return path;
  const auto found = find_checkpoint(path);
  if (found) return found->path;
  throw Error({.code = ExitCode::kInput,
               .where = path.string(),
               .what = "holds no whole checkpoint",
               .remedy = "name a checkpoint folder or a run"});
}

// Fills a folder of its own beside `out` and gives it that name; nothing is left when it fails, and
// nothing of the user's is touched.
template <class Fill>
void publish_folder(const fs::path& out, const Fill& fill) {
  const fs::path temporary = temporary_directory(out);
  try {
    fill(temporary);
    publish_directory(temporary, out);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
}

void import_c2c(const fs::path& from, const fs::path& out) {
  const C2CProjector projector(read_c2c_directory(from), "fuse");
  Checkpoint checkpoint;
  checkpoint.state.stage = "import";
  checkpoint.state.stage_finished = true;
  checkpoint.pair.source = {.name = "unknown", .shape = projector.source_shape()};
  checkpoint.pair.target = {.name = "unknown", .shape = projector.target_shape()};
  checkpoint.projector_config = projector.config();
  checkpoint.projector = projector.state();
  checkpoint.rng = RngState::capture();
  publish_folder(out, [&](const fs::path& folder) { write_checkpoint(checkpoint, folder); });
}

void export_c2c(const fs::path& from, const fs::path& out) {
  const fs::path folder = checkpoint_folder(from);
  const Checkpoint checkpoint = read_checkpoint(folder);
  const std::string where = (folder / "projector.json").string();
  const auto projector =
      projector_from_config(checkpoint.projector_config, where, numbers_in(checkpoint.projector));
  auto* c2c = dynamic_cast<C2CProjector*>(projector.get());
  if (c2c == nullptr) {
    throw Error({.code = ExitCode::kUsage,
                 .where = where,
                 .what = "Cache-to-Cache's format holds its own projector only",
                 .got = projector->kind(),
                 .expected = "kind c2c"});
  }
  std::map<std::string, at::Tensor> tensors(checkpoint.projector.begin(),
                                            checkpoint.projector.end());
  if (!tensors.empty()) c2c->to(at::kCPU, tensors.begin()->second.scalar_type());
  c2c->load_state(tensors, (folder / "projector.safetensors").string());
  write_c2c_directory(c2c->fuser(), out);
}

void export_safetensors(const fs::path& from, const fs::path& out) {
  const fs::path folder = checkpoint_folder(from);
  read_checkpoint(folder);  // every file is checked before anything is handed on
  publish_folder(out, [&](const fs::path& temporary) {
    std::string sums;
    for (const char* name : {"projector.safetensors", "projector.json"}) {
      copy_file_atomic(folder / name, temporary / name);
      sums += sha256_file(temporary / name) + "  " + name + "\n";
    }
    write_file_atomic(temporary / "SHA256SUMS", sums);
  });
}

void export_vllm(const fs::path& from, const fs::path& out) {
  const fs::path folder = checkpoint_folder(from);
  const Checkpoint checkpoint = read_checkpoint(folder);
  publish_folder(out, [&](const fs::path& temporary) {
    write_kv_mapper(checkpoint, (folder / "projector.json").string(), temporary);
  });
}

}  // namespace

void import_checkpoint(const std::string& format, const fs::path& from, const fs::path& named) {
  const fs::path out = without_slash(named);
  if (format != "c2c") unknown_format("import", format, "c2c");
  refuse_existing(out);
  import_c2c(from, out);
}

void export_checkpoint(const std::string& format, const fs::path& from, const fs::path& named) {
  const fs::path out = without_slash(named);
  if (format != "c2c" && format != "safetensors" && format != "vllm")
    unknown_format("export", format, "c2c, safetensors or vllm");
  refuse_existing(out);
  if (format == "c2c") {
    export_c2c(from, out);
  } else if (format == "vllm") {
    export_vllm(from, out);
  } else {
    export_safetensors(from, out);
  }
}

}  // namespace kvlingua
