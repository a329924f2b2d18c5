#include "kvlingua/io/manifest.h"

#include <algorithm>
#include <set>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kVersion = 1;
constexpr std::string_view kSealKey = "\"sha256_of_lines_above\": \"";
constexpr size_t kMaxBytes = size_t{1} << 30;

bool is_hash(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool stays_inside(const std::string& path) {
  if (path.empty() || path.find("//") != std::string::npos ||
      path.find('\0') != std::string::npos || path.find('\\') != std::string::npos)
    return false;
  const fs::path p(path);
  if (p.is_absolute()) return false;
  return std::none_of(p.begin(), p.end(), [](const fs::path& part) {
    return part == ".." || part == "." || part.empty();
  });
}

[[noreturn]] void corrupt(const std::string& where, std::string what, std::string got = {}) {
  throw Error({.code = ExitCode::kCorrupt,
               .where = where,
               .what = std::move(what),
               .got = std::move(got),
               .remedy = "use an older checkpoint, or make the folder again"});
}

// Checks the last line and returns the rest.
std::string_view unseal(std::string_view text, const std::string& where) {
  constexpr size_t kHash = 64;
  const size_t tail = kSealKey.size() + kHash + 3;  // "}\n
  if (text.size() < tail) corrupt(where, "manifest is cut short", cat(text.size(), " bytes"));
  const std::string_view above = text.substr(0, text.size() - tail),
                         line = text.substr(text.size() - tail);
  const std::string_view hash = line.substr(kSealKey.size(), kHash);
  if (!line.starts_with(kSealKey) || !line.ends_with("\"}\n") || !is_hash(hash) ||
      !above.ends_with(",\n")) {
    corrupt(where, "manifest is cut short or its last line is damaged");
  }
  if (sha256_hex(above) != hash)
    corrupt(where, "manifest is damaged: it does not have the hash in its last line");
  return above;
}

const Json& member(const Json& object, const char* key, Json::value_t type,
                   const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || it->type() != type)
    corrupt(where, cat("no \"", key, "\", or of a wrong type"));
  return *it;
}

ManifestEntry read_entry(const Json& object, const std::string& where) {
  if (!object.is_object()) corrupt(where, "entry is not an object");
  ManifestEntry entry;
  entry.path = member(object, "path", Json::value_t::string, where).get<std::string>();
  entry.bytes = member(object, "bytes", Json::value_t::number_unsigned, where).get<uint64_t>();
  entry.sha256 = member(object, "sha256", Json::value_t::string, where).get<std::string>();
  entry.attributes = member(object, "attributes", Json::value_t::object, where);
  if (!stays_inside(entry.path))
    corrupt(where, "path leads out of the folder", printable(entry.path));
  if (!is_hash(entry.sha256)) corrupt(where, "not a sha256", printable(entry.sha256));
  return entry;
}

}  // namespace

Manifest Manifest::parse(std::string_view text, const std::string& where) {
  unseal(text, where);
  const Json document = parse_json(text, where);
  if (member(document, "kvlingua_manifest", Json::value_t::number_unsigned, where) != kVersion) {
    corrupt(where, "manifest of another version", document["kvlingua_manifest"].dump());
  }
  Manifest manifest;
  manifest.attributes_ = member(document, "attributes", Json::value_t::object, where);
  std::set<std::string> seen;
  for (const Json& object : member(document, "entries", Json::value_t::array, where)) {
    ManifestEntry entry = read_entry(object, cat(where, ": entry ", manifest.entries_.size()));
    if (!seen.insert(entry.path).second)
      corrupt(where, "a path is listed twice", printable(entry.path));
    manifest.entries_.push_back(std::move(entry));
  }
  return manifest;
}

Manifest Manifest::load(const fs::path& path) {
  return parse(read_text_file(path, kMaxBytes), path.string());
}

std::string Manifest::dump() const {
  std::string text = cat("{\"kvlingua_manifest\": ", kVersion,
                         ",\n\"attributes\": ", attributes_.dump(), ",\n\"entries\": [\n");
  for (size_t i = 0; i < entries_.size(); ++i) {
    const ManifestEntry& entry = entries_[i];
    nlohmann::ordered_json line{{"path", entry.path},
                                {"bytes", entry.bytes},
                                {"sha256", entry.sha256},
                                {"attributes", entry.attributes}};
    text += line.dump() + (i + 1 < entries_.size() ? ",\n" : "\n");
  }
  text += "],\n";
  return text + std::string(kSealKey) + sha256_hex(text) + "\"}\n";
}

void Manifest::save(const fs::path& path) const { write_file_atomic(path, dump()); }

const ManifestEntry* Manifest::find(std::string_view path) const {
  const auto it = std::find_if(entries_.begin(), entries_.end(),
                               [&](const ManifestEntry& e) { return e.path == path; });
  return it == entries_.end() ? nullptr : &*it;
}

void Manifest::set(ManifestEntry entry) {
  if (!stays_inside(entry.path) || !is_hash(entry.sha256)) {
    throw Error({.where = "manifest",
                 .what = "not an entry that can be kept",
                 .got = cat(printable(entry.path), " ", printable(entry.sha256))});
  }
  if (const ManifestEntry* old = find(entry.path)) {
    entries_[static_cast<size_t>(old - entries_.data())] = std::move(entry);
  } else {
    entries_.push_back(std::move(entry));
  }
}

void Manifest::set_file(const fs::path& folder, const std::string& path, Json attributes) {
  const fs::path file = folder / path;
  std::string hash = sha256_file(file);
  set({.path = path,
       .bytes = fs::file_size(file),
       .sha256 = std::move(hash),
       .attributes = std::move(attributes)});
}

void Manifest::remove(std::string_view path) {
  std::erase_if(entries_, [&](const ManifestEntry& e) { return e.path == path; });
}

std::vector<ManifestDamage> Manifest::verify(
    const fs::path& folder, bool deep,
    const std::function<void(uint64_t, uint64_t)>& progress) const {
  uint64_t total = 0, done = 0;
  for (const ManifestEntry& entry : entries_) total += entry.bytes;
  std::vector<ManifestDamage> damage;
  for (const ManifestEntry& entry : entries_) {
    const fs::path file = folder / entry.path;
    std::error_code error;
    const uint64_t bytes = fs::is_regular_file(file, error) ? fs::file_size(file, error) : 0;
    if (!fs::exists(file, error)) {
      damage.push_back({entry.path, "missing"});
    } else if (!fs::is_regular_file(file, error)) {
      damage.push_back({entry.path, "not a file"});
    } else if (bytes != entry.bytes) {
      damage.push_back({entry.path, cat(bytes, " bytes instead of ", entry.bytes)});
    } else if (deep) {
      try {
        const std::string hash = sha256_file(file);
        if (hash != entry.sha256)
          damage.push_back(
              {entry.path, cat("content changed (sha256 ", hash.substr(0, 12), "... instead of ",
                               entry.sha256.substr(0, 12), "...)")});
      } catch (const Error& e) {
        damage.push_back({entry.path, cat("cannot be read: ", e.parts().got)});
      }
    }
    done += entry.bytes;
    if (progress) progress(done, total);
  }
  return damage;
}

}  // namespace kvlingua
