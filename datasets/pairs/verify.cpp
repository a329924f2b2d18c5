#include "datasets/pairs/verify.h"

#include <algorithm>

#include "datasets/pairs/pair_manifest.h"
#include "datasets/pairs/pair_reader.h"
#include "datasets/pairs/pair_shard.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRowsAtATime = 4096;

// All rows of one sample range, both sides; every bad sample is named once.
void scan_numbers(const ShardFile& shard, const std::string& file,
                  std::vector<VerifyProblem>& problems) {
  const ShardIndex& x = shard.index();
  for (Side side : {Side::kSource, Side::kTarget}) {
    const auto& offsets = side == Side::kSource ? x.source_row_offsets : x.target_row_offsets;
    for (int64_t begin = 0; begin < offsets.back(); begin += kRowsAtATime) {
      const int64_t end = std::min(begin + kRowsAtATime, offsets.back());
      const auto look = [&](int64_t from, int64_t to) {
        shard.rows(side, from, to);
        if (side == Side::kSource) return;
        shard.target_queries(from, to);
        shard.target_attention_outputs(from, to);
      };
      try {
        look(begin, end);
        continue;
      } catch (const Error&) {
      }
      // Something is wrong in there: sample by sample, to name it.
      const auto first =
          std::upper_bound(offsets.begin(), offsets.end(), begin) - offsets.begin() - 1;
      for (auto i = first; i < x.samples() && offsets[static_cast<size_t>(i)] < end; ++i) {
        const int64_t from = std::max(begin, offsets[static_cast<size_t>(i)]),
                      to = std::min(end, offsets[static_cast<size_t>(i) + 1]);
        try {
          if (from < to) look(from, to);
        } catch (const Error& error) {
          problems.push_back({file, x.id[static_cast<size_t>(i)], error.parts().what});
        }
      }
    }
  }
}

// What training would stumble over beyond what opening a shard checks.
void check_texts(const ShardFile& shard, const std::string& file,
                 std::vector<VerifyProblem>& problems) {
  for (int64_t i = 0; i < shard.index().samples(); ++i) {
    const SampleRecord r = shard.sample(i);
    if (const auto at = find_invalid_utf8(r.text))
      problems.push_back({file, r.id, cat("the text is not UTF-8 at byte ", *at)});
  }
}

void verify_shard(const fs::path& directory, const PairManifest& manifest, const ShardEntry& entry,
                  int64_t first_sample, VerifyResult& result) {
  const fs::path path = directory / entry.file;
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  if (error) {
    result.problems.push_back({entry.file, -1, "missing"});
    return;
  }
  if (static_cast<int64_t>(bytes) != entry.bytes) {
    result.problems.push_back({entry.file, -1, cat(bytes, " bytes instead of ", entry.bytes)});
    return;
  }
  if (sha256_file(path) != entry.sha256) {
    result.problems.push_back(
        {entry.file, -1, "contents changed: another sha256 than the manifest's"});
    return;
  }
  try {
    const ShardFile shard(path, manifest.info);
    const ShardIndex& x = shard.index();
    if (shard.number() != entry.index ||
        (first_sample >= 0 && x.samples() > 0 && x.id.front() != first_sample)) {
      result.problems.push_back({entry.file, -1, cat("holds shard ", shard.number(), " of a set")});
    }
    if (x.samples() != entry.samples || x.source_row_offsets.back() != entry.source_rows ||
        x.target_row_offsets.back() != entry.target_rows) {
      result.problems.push_back(
          {entry.file, -1, cat(x.samples(), " samples instead of ", entry.samples)});
    }
    check_texts(shard, entry.file, result.problems);
    scan_numbers(shard, entry.file, result.problems);
    result.samples += x.samples();
  } catch (const Error& e) {
    // "file.h5: source/row_token" -> the place in it
    std::string place = e.parts().where;
    if (place.starts_with(path.string())) place.erase(0, path.string().size());
    while (place.starts_with(':') || place.starts_with(' ')) place.erase(0, 1);
    result.problems.push_back(
        {entry.file, -1, (place.empty() ? "" : place + ": ") + e.parts().what});
  }
}

}  // namespace

nlohmann::ordered_json VerifyResult::to_json() const {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const VerifyProblem& p : problems) {
    nlohmann::ordered_json item = {{"file", p.file}, {"what", p.what}};
    if (p.sample >= 0) item["sample"] = p.sample;
    list.push_back(std::move(item));
  }
  return {{"kind", "pairs"},      {"directory", directory.string()},
          {"complete", complete}, {"shards", shards},
          {"samples", samples},   {"bytes", bytes},
          {"problems", list}};
}

bool is_pair_set(const fs::path& directory) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("manifest.rank-") || (name.starts_with("shard-") && name.ends_with(".h5")))
      return true;
    if (name != kManifestFile) continue;
    try {
      return load_pair_manifest(directory).has_value();
    } catch (const Error& error) {
      return error.code() == ExitCode::kCorrupt;
    }
  }
  return false;
}

VerifyResult verify_pairs(const fs::path& directory) {
  VerifyResult result;
  result.directory = directory;
  std::optional<PairManifest> manifest;
  try {
    manifest = load_pair_manifest(directory);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kCorrupt) throw;
    std::string place = error.parts().where;
    const std::string inside = directory.string() + "/";
    if (place.starts_with(inside)) place.erase(0, inside.size());
    result.problems.push_back({place, -1, error.parts().what});
    return result;
  }
  if (!manifest) {
    throw Error({.code = ExitCode::kInput,
                 .where = directory.string(),
                 .what = "no pair set there",
                 .expected = cat("a folder with ", kManifestFile)});
  }
  result.complete = manifest->complete();
  result.shards = static_cast<int64_t>(manifest->shards.size());
  result.bytes = manifest->bytes();
  Progress progress("verify", result.bytes, "bytes");
  int64_t first = 0;  // sample of the next shard; known as long as none is missing
  for (const auto& [index, entry] : manifest->shards) {
    if (stop_requested()) throw stopped_error("nothing was changed");
    if (index == 0 || (first >= 0 && manifest->shards.contains(index - 1))) {
      verify_shard(directory, *manifest, entry, first, result);
      first += entry.samples;
    } else {
      first = -1;
      verify_shard(directory, *manifest, entry, -1, result);
    }
    progress.advance(entry.bytes);
  }
  return result;
}

}  // namespace kvlingua
