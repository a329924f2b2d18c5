// layers: datasets
// A pair set's manifest with changed fields and a hash that fits: refused, or what it says holds
// together.
#include "datasets/pairs/pair_manifest.h"

#include <cstdlib>
#include <limits>

#include "kvlingua/base/error.h"
#include "kvlingua/io/manifest.h"
#include "mutations.h"
#include "support/pair_fixtures.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvlingua;
  static const std::filesystem::path folder = [] {
    const auto made = fuzz::scratch("manifest");
    testing::make_pair_set(made, testing::small_info(), 6, 2);
    return made;
  }();
  static const Manifest valid = Manifest::load(folder / std::string(kManifestFile));
  fuzz::Bytes bytes(data, size);
  nlohmann::json document = {{"attributes", valid.attributes()},
                             {"entries", nlohmann::json::array()}};
  for (const ManifestEntry& e : valid.entries()) document["entries"].push_back(e.attributes);
  fuzz::mutate(document, bytes);
  Manifest changed;
  if (document.is_object() && document.contains("attributes"))
    changed.attributes() = document["attributes"];
  size_t i = 0;
  for (ManifestEntry e : valid.entries()) {
    if (document.is_object() && document.contains("entries") && document["entries"].is_array() &&
        i < document["entries"].size())
      e.attributes = document["entries"][i];
    ++i;
    changed.set(e);
  }
  try {
    // Without the disk: what load does to the text of the file.
    Manifest::parse(changed.dump(), "fuzz");
  } catch (const Error&) {
    return 0;
  } catch (const nlohmann::json::exception&) {
    return 0;  // a document that cannot be written, such as one of infinite numbers
  }
  changed.save(folder / std::string(kManifestFile));
  try {
    const auto read = load_pair_manifest(folder);
    if (!read) std::abort();
    int64_t samples = 0;
    for (const auto& [index, shard] : read->shards) {
      if (index < 0 || index >= read->planned_shards || shard.samples < 0) std::abort();
      samples += shard.samples;
    }
    if (samples > read->planned_samples) std::abort();
    if (read->info.source_row_bytes() < 1 || read->info.target_row_bytes() < 1) std::abort();
    read->sha256();
  } catch (const Error& error) {
    if (error.code() != ExitCode::kCorrupt && error.code() != ExitCode::kInput) std::abort();
  }
  return 0;
}
