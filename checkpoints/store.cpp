#include "checkpoints/store.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <set>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/config/stages.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/file_ops.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/manifest.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step-";

std::string folder_name(int64_t global_step) {
  char name[32];
  std::snprintf(name, sizeof name, "%s%06lld", kPrefix, static_cast<long long>(global_step));
  return name;
}

// A file system without symbolic links says so in one of these ways.
bool no_links_here(const std::error_code& error) {
  return error == std::errc::operation_not_permitted ||
         error == std::errc::operation_not_supported || error == std::errc::not_supported ||
         error == std::errc::function_not_supported;
}

// Copied with its links followed, a run has folders where its links were. They are checkpoints that
// somebody may still want: moved aside, not removed.
void make_way(const fs::path& link) {
  std::error_code ignored;
  if (fs::is_symlink(link, ignored) || !fs::is_directory(link, ignored)) return;
  fs::path aside;
  for (int n = 1; n == 1 || fs::exists(aside, ignored); ++n)
    aside = link.parent_path() / cat(link.filename().string(), ".copy-", n);
  if (file_ops::rename(link, aside) != 0) file_ops::fail(link, "cannot be moved aside", errno);
  log_warning(cat(link.string(), " was a folder, not a link: moved to ", aside.string()));
}

// A link that points at its target or at the one before, never nowhere.
void point(const fs::path& link, const std::string& target) {
  const fs::path temporary = link.parent_path() / ("." + link.filename().string() + ".link");
  file_ops::remove(temporary);
  make_way(link);
  if (const int failed = file_ops::step()) file_ops::fail(link, "cannot be written", failed);
  std::error_code error;
  fs::create_symlink(target, temporary, error);
  if (error && !no_links_here(error)) file_ops::fail(link, "cannot be written", error.value());
  if (error) {
    write_file_atomic(link, target + "\n");  // exFAT, SMB: a small file that names the folder
    return;
  }
  if (file_ops::rename(temporary, link) != 0) file_ops::fail(link, "cannot be written", errno);
  if (file_ops::sync_directory(link.parent_path()) != 0)
    file_ops::fail(link, "cannot be flushed to the disk", errno);
}

// Renamed first: a half-removed folder must not look like a damaged checkpoint.
void discard(const fs::path& folder) {
  const fs::path trash = folder.parent_path() / (".trash-" + folder.filename().string());
  std::error_code ignored;
  fs::remove_all(trash, ignored);
  if (file_ops::rename(folder, trash) == 0) fs::remove_all(trash, ignored);
}

// What pruning needs to know of one checkpoint, without reading its tensors.
struct Entry {
  fs::path path;
  std::string stage;
  bool finished = false;
  double score = std::numeric_limits<double>::infinity();
};

std::optional<Entry> describe(const fs::path& folder) {
  try {
    const Manifest manifest = Manifest::load(folder / std::string(Manifest::kFileName));
    const nlohmann::json& attributes = manifest.attributes();
    Entry entry{folder, attributes.at("stage"), attributes.at("stage_finished")};
    if (attributes.at("score").is_number()) entry.score = attributes["score"];
    return entry;
  } catch (const std::exception&) {
    return std::nullopt;  // damaged: not ours to remove, resume will name it
  }
}

}  // namespace

CheckpointStore::CheckpointStore(fs::path run, const CheckpointOptions& options)
    : run_(std::move(run)), options_(options) {
  make_directories(run_);
  lock_ = FileLock(run_ / ".lock");
  if (!lock_.held()) {
    throw Error({.where = run_.string(),
                 .what = "another process trains here",
                 .remedy = "wait for it, or give checkpoint.name another value"});
  }
  std::error_code ignored;
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(run_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".step-") || name.starts_with(".trash-step-") ||
        (name.starts_with('.') && name.ends_with(".link"))) {
      leftovers.push_back(entry.path());
    }
  }
  for (const fs::path& leftover : leftovers) fs::remove_all(leftover, ignored);
  repair_links();
}

// Killed between the rename of a checkpoint and its links, a run has the one without the others,
// and a stage that is done is never saved again.
void CheckpointStore::repair_links() const {
  std::set<std::string> seen;
  const auto aim = [&](const std::string& name, const fs::path& checkpoint) {
    if (!seen.insert(name).second) return;
    const fs::path link = run_ / name;
    std::error_code ignored;
    if (fs::is_directory(link, ignored) && !fs::is_symlink(link, ignored)) return;  // a copied run
    const bool there = fs::exists(link, ignored) &&
                       fs::equivalent(follow_link(link), checkpoint, ignored) && !ignored;
    if (!there) point(link, checkpoint.filename().string());
  };
  for (const fs::path& path : list_checkpoints(run_)) {
    const auto entry = describe(path);
    if (!entry || find_stage(entry->stage) == nullptr) continue;
    aim("latest", path);
    if (entry->finished) aim(entry->stage, path);
  }
}

CheckpointStore::~CheckpointStore() {
  try {
    wait();
  } catch (const std::exception& error) {
    log_error(error.what());
  }
}

fs::path CheckpointStore::save(const Checkpoint& checkpoint) {
  wait();
  const fs::path path = run_ / folder_name(checkpoint.state.global_step);
  if (!options_.background) {
    write(checkpoint);
    return path;
  }
  auto copy = std::make_shared<const Checkpoint>(checkpoint.snapshot());
  pending_ = std::async(std::launch::async, [this, copy] { write(*copy); });
  return path;
}

void CheckpointStore::wait() {
  if (pending_.valid()) pending_.get();
}

void CheckpointStore::write(const Checkpoint& checkpoint) const {
  const std::string name = folder_name(checkpoint.state.global_step);
  const fs::path temporary = run_ / ("." + name + ".tmp");
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
  make_directories(temporary);
  try {
    write_checkpoint(checkpoint, temporary);
    publish_directory(temporary, run_ / name);
  } catch (...) {
    fs::remove_all(temporary, ignored);
    throw;
  }
  point(run_ / "latest", name);
  if (checkpoint.state.stage_finished) point(run_ / checkpoint.state.stage, name);
  prune(checkpoint.state.stage);
}

void CheckpointStore::prune(const std::string& stage) const {
  std::set<fs::path> keep;
  std::vector<Entry> entries;  // newest first
  for (const fs::path& path : list_checkpoints(run_)) {
    if (const auto entry = describe(path)) entries.push_back(*entry);
  }
  for (const Entry& entry : entries) {
    if (static_cast<int64_t>(keep.size()) < options_.keep_last) keep.insert(entry.path);
  }
  for (const Entry& entry : entries) {
    if (entry.finished) keep.insert(entry.path);
  }
  std::vector<Entry> scored;
  for (const Entry& entry : entries) {
    if (entry.stage == stage && entry.score < std::numeric_limits<double>::infinity()) {
      scored.push_back(entry);
    }
  }
  std::stable_sort(scored.begin(), scored.end(),
                   [](const Entry& a, const Entry& b) { return a.score < b.score; });
  for (size_t i = 0; i < scored.size() && static_cast<int64_t>(i) < options_.keep_best; ++i) {
    keep.insert(scored[i].path);
  }
  for (const Entry& entry : entries) {
    if (!keep.contains(entry.path)) discard(entry.path);
  }
}

void CheckpointStore::clear(const std::vector<std::string>& stages) {
  wait();
  const auto chosen = [&](const std::string& stage) {
    return stages.empty() || std::find(stages.begin(), stages.end(), stage) != stages.end();
  };
  for (const fs::path& path : list_checkpoints(run_)) {
    const auto entry = describe(path);
    if (stages.empty() || (entry && chosen(entry->stage))) discard(path);
  }
  std::vector<fs::path> dangling;
  for (const auto& entry : fs::directory_iterator(run_)) {
    const fs::path there = follow_link(entry.path());
    const bool link = entry.is_symlink() || there != entry.path();
    if (link && !fs::exists(there)) dangling.push_back(entry.path());
  }
  for (const fs::path& link : dangling) file_ops::remove(link);
}

fs::path follow_link(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored) || fs::file_size(path, ignored) > 64) return path;
  std::string name = read_text_file(path, 64);
  while (!name.empty() && (name.back() == '\n' || name.back() == '\r')) name.pop_back();
  const bool step = name.starts_with(kPrefix) && name.size() > 5 && name.size() <= 23 &&
                    name.find_first_not_of("0123456789", 5) == std::string::npos;
  return step ? path.parent_path() / name : path;
}

std::vector<fs::path> list_checkpoints(const fs::path& run) {
  std::vector<std::pair<int64_t, fs::path>> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run, ignored)) {
    const std::string name = entry.path().filename().string();
    const std::string digits = name.starts_with(kPrefix) ? name.substr(5) : "";
    if (digits.empty() || digits.size() > 18 ||
        digits.find_first_not_of("0123456789") != std::string::npos || entry.is_symlink()) {
      continue;
    }
    found.emplace_back(std::stoll(digits), entry.path());
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<fs::path> paths;
  for (auto& [step, path] : found) paths.push_back(std::move(path));
  return paths;
}

std::optional<FoundCheckpoint> find_checkpoint(const fs::path& run,
                                               std::vector<std::string>* skipped,
                                               const std::string& stage) {
  std::vector<std::string> lines;
  for (const fs::path& path : list_checkpoints(run)) {
    try {
      const Manifest manifest = load_checkpoint_manifest(path);
      if (!stage.empty() && manifest.attributes().value("stage", "") != stage) continue;
      const auto damage = manifest.verify(path);
      if (damage.empty()) {
        if (skipped != nullptr) *skipped = lines;
        return FoundCheckpoint{path, lines};
      }
      for (const ManifestDamage& d : damage) {
        lines.push_back(cat((path / d.path).string(), ": ", d.reason));
      }
    } catch (const Error& error) {
      lines.emplace_back(error.what());
    } catch (const nlohmann::json::exception& error) {
      lines.push_back(cat(path.string(), ": ", printable(error.what())));
    }
  }
  if (skipped != nullptr) *skipped = lines;
  return std::nullopt;
}

}  // namespace kvlingua
