#include "kvlingua/io/hub.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/io/gguf.h"
#include "kvlingua/io/json.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;

fs::path home_of(const std::string& user) {
  if (user.empty()) {
    if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return home;
  }
  const passwd* entry = user.empty() ? ::getpwuid(::getuid()) : ::getpwnam(user.c_str());
  return entry == nullptr || entry->pw_dir == nullptr ? fs::path() : fs::path(entry->pw_dir);
}

// As huggingface_hub reads its variables: Python's expanduser, then expandvars. What is not known
// stays as it is written.
std::string expanded(std::string text) {
  if (text.starts_with('~')) {
    const size_t end = std::min(text.find('/'), text.size());
    if (const fs::path home = home_of(text.substr(1, end - 1)); !home.empty())
      text.replace(0, end, home.string());
  }
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const bool braced = text.compare(at, 2, "${") == 0;
    size_t end = at + (braced ? 2 : 1);
    while (text[at] == '$' && end < text.size() &&
           (std::isalnum(static_cast<unsigned char>(text[end])) || text[end] == '_'))
      ++end;
    const size_t begin = at + (braced ? 2 : 1);
    const bool closed = !braced || (end < text.size() && text[end] == '}');
    const char* value = text[at] == '$' && closed && end > begin
                            ? std::getenv(text.substr(begin, end - begin).c_str())
                            : nullptr;
    if (value == nullptr) {
      out += text[at++];
    } else {
      out += value;
      at = end + (braced ? 1 : 0);
    }
  }
  return out;
}

fs::path environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? fs::path() : fs::path(expanded(value));
}

// The files of a snapshot that are read, weights aside.
constexpr std::array kFilesRead = {
    "config.json",           "generation_config.json", "tokenizer.json",
    "tokenizer_config.json", "chat_template.jinja",    "special_tokens_map.json",
    "added_tokens.json",     "model.safetensors",      "model.safetensors.index.json"};

bool is_name_part(std::string_view part) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !part.empty() && part.size() <= 96 && part[0] != '.' && part[0] != '-' &&
         std::all_of(part.begin(), part.end(), plain);
}

struct HubName {
  std::string repository;  // "org/name"
  std::string revision;    // "main" unless given
};

// nullopt: not of the form org/name[@revision].
std::optional<HubName> parse_hub_name(std::string_view text) {
  HubName name{.repository = std::string(text.substr(0, text.find('@'))), .revision = "main"};
  if (const size_t at = text.find('@'); at != std::string_view::npos)
    name.revision = text.substr(at + 1);
  const size_t slash = name.repository.find('/');
  if (slash == std::string::npos) return std::nullopt;
  const std::string_view repository = name.repository;
  if (!is_name_part(repository.substr(0, slash)) || !is_name_part(repository.substr(slash + 1)))
    return std::nullopt;
  // A revision is a commit, a branch or a tag; branches may hold slashes ("refs/pr/1").
  if (name.revision.empty() || name.revision.find("..") != std::string::npos ||
      name.revision.front() == '/')
    return std::nullopt;
  return name;
}

std::string download_command(const HubName& name) {
  return cat("run: hf download ", name.repository,
             name.revision == "main" ? "" : cat(" --revision ", name.revision));
}

// The commit that refs/<revision> names, or the revision itself when it is a commit in the cache;
// empty: neither.
std::string find_commit(const fs::path& folder, const std::string& revision) {
  std::error_code ignored;
  const fs::path ref = folder / "refs" / revision;
  if (fs::is_regular_file(ref, ignored)) {
    std::string commit = read_text_file(ref, 4096);
    while (!commit.empty() && std::isspace(static_cast<unsigned char>(commit.back())))
      commit.pop_back();
    if (is_name_part(commit)) return commit;
  }
  return is_name_part(revision) && fs::is_directory(folder / "snapshots" / revision, ignored)
             ? revision
             : "";
}

// Links among the files that are read whose blob is gone; others nobody needs.
std::vector<std::string> dangling_links(const fs::path& snapshot) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const char* name : kFilesRead) {
    if (fs::is_symlink(snapshot / name, ignored) && !fs::exists(snapshot / name, ignored))
      names.emplace_back(name);
  }
  return names;
}

size_t unfinished_downloads(const fs::path& folder) {
  size_t count = 0;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder / "blobs", ignored)) {
    count += entry.path().extension() == ".incomplete" ? 1 : 0;
  }
  return count;
}

// What a usable snapshot lacks; empty: nothing.
std::string missing_parts(const fs::path& snapshot) {
  std::error_code ignored;
  if (!fs::exists(snapshot / "config.json", ignored)) return "config.json";
  if (fs::exists(snapshot / "model.safetensors", ignored)) return "";
  const fs::path index = snapshot / "model.safetensors.index.json";
  if (!fs::exists(index, ignored)) return "model.safetensors";
  const nlohmann::json document = parse_json(read_text_file(index), index.string());
  const auto map = document.find("weight_map");
  if (map == document.end() || !map->is_object())
    return "";  // ShardedSafetensors says what is wrong with it
  for (const auto& [tensor, file] : map->items()) {
    if (file.is_string() && !fs::exists(snapshot / file.get<std::string>(), ignored))
      return file.get<std::string>();
  }
  return "";
}

// A hub name's directory in KVLINGUA_MODELS, for machines without a Hugging Face cache; empty:
// none. Directories there are named by whoever copied them: org/name, name, or the name in lower
// case.
fs::path in_own_models(const HubName& name) {
  const fs::path models = environment("KVLINGUA_MODELS");
  if (models.empty() || name.revision != "main") return {};
  const std::string last = name.repository.substr(name.repository.find('/') + 1);
  std::string lower = last;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::error_code ignored;
  for (const std::string& candidate : {name.repository, last, lower}) {
    if (fs::is_regular_file(models / candidate / "config.json", ignored)) return models / candidate;
  }
  return {};
}

}  // namespace

fs::path hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const fs::path path = environment(name); !path.empty()) return path;
  }
  if (const fs::path home = environment("HF_HOME"); !home.empty()) return home / "hub";
  if (const fs::path cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return cache / "huggingface" / "hub";
  const fs::path home = home_of("");
  return (home.empty() ? fs::path("/") : home) / ".cache" / "huggingface" / "hub";
}

fs::path resolve_model(std::string_view name_or_path) {
  std::error_code ignored;
  const fs::path path{std::string(name_or_path)};
  const std::string shown = printable(name_or_path);
  if (!name_or_path.empty() && (fs::is_directory(path, ignored) || is_gguf_path(path))) return path;
  const auto refuse = [&](std::string what, std::string got, std::string remedy) {
    throw Error({.code = ExitCode::kInput,
                 .where = cat("model ", shown.empty() ? "\"\"" : shown),
                 .what = std::move(what),
                 .got = std::move(got),
                 .remedy = std::move(remedy)});
  };
  if (fs::exists(path, ignored) && !name_or_path.empty()) {
    refuse("is a file", {},
           "give the directory that holds config.json and model.safetensors, or a .gguf file");
  }
  const std::optional<HubName> name = parse_hub_name(name_or_path);
  if (!name)
    refuse(name_or_path.ends_with(".gguf") ? "no such file" : "no such directory", {},
           "give a directory, or a Hugging Face name like Qwen/Qwen3-0.6B");
  if (const fs::path own = in_own_models(*name); !own.empty()) return own;

  std::string folder_name = "models--" + name->repository;
  folder_name.replace(folder_name.find('/'), 1, "--");
  const fs::path folder = hub_cache() / folder_name;
  if (!fs::is_directory(folder, ignored)) {
    refuse("neither a directory nor in the Hugging Face cache", cat("nothing at ", folder.string()),
           download_command(*name));
  }
  const std::string commit = find_commit(folder, name->revision);
  if (commit.empty())
    refuse(cat("revision ", printable(name->revision), " is not in the Hugging Face cache"), {},
           download_command(*name));
  const fs::path snapshot = folder / "snapshots" / commit;
  if (!fs::is_directory(snapshot, ignored)) {
    refuse(cat("snapshot ", commit, " is not in the Hugging Face cache"),
           cat("nothing at ", snapshot.string()), download_command(*name));
  }
  if (const auto dangling = dangling_links(snapshot); !dangling.empty()) {
    refuse("the download in the Hugging Face cache is damaged",
           cat(dangling.size(), " links without a file, first ", printable(dangling[0])),
           download_command(*name));
  }
  if (const std::string missing = missing_parts(snapshot); !missing.empty()) {
    const size_t unfinished = unfinished_downloads(folder);
    refuse(unfinished > 0 ? cat("the download is incomplete (", unfinished, " unfinished files)")
                          : "the download is incomplete",
           cat("no ", printable(missing), " in ", snapshot.string()), download_command(*name));
  }
  return snapshot;
}

fs::path resolve_model(const std::string& name_or_path, const std::string& revision) {
  if (revision.empty() || revision == "main") return resolve_model(name_or_path);
  const auto refuse = [&](std::string what, std::string remedy) {
    throw Error({.code = ExitCode::kInput,
                 .where = cat("model ", printable(name_or_path)),
                 .what = std::move(what),
                 .got = cat("revision ", printable(revision)),
                 .remedy = std::move(remedy)});
  };
  std::error_code ignored;
  if (is_gguf_path(name_or_path))
    refuse("is a file, which has no revisions", "leave revision out, or name a hub model");
  if (fs::is_directory(name_or_path, ignored))
    refuse("is a directory, which has no revisions", "leave revision out, or name a hub model");
  const size_t at = name_or_path.find('@');
  if (at == std::string::npos) return resolve_model(name_or_path + "@" + revision);
  if (name_or_path.substr(at + 1) != revision)
    refuse("names another revision itself", "give one of the two");
  return resolve_model(name_or_path);
}

}  // namespace kvlingua
