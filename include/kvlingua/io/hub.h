// From a model's name to its directory: a path as it is, or "org/name" in the local Hugging Face
// cache. Nothing is downloaded.
//
// The cache's layout (huggingface_hub, "Understand caching"):
//   models--org--name/refs/main               the commit a revision stands for
//   models--org--name/snapshots/<commit>/     symlinks into blobs/, one per file
//   models--org--name/blobs/*.incomplete      downloads that did not finish
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace kvlingua {

// Where the cache is (~ and $VARIABLES expanded, as huggingface_hub does): HF_HUB_CACHE,
// HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub.
std::filesystem::path hub_cache();

// "dir/of/a/model" or "file.gguf" -> itself when it exists; "org/name" -> org/name, name or the
// name in lower case under KVLINGUA_MODELS when a model is there; else "org/name" or
// "org/name@revision" -> its snapshot in the cache. A snapshot must hold config.json and weights,
// and none of its links may dangle. Throws Error (kInput) that says what is missing and prints the
// `hf download` command.
std::filesystem::path resolve_model(std::string_view name_or_path);
// The same with a recipe's `revision` key ("main" and "" are no revision). Throws Error (kInput)
// too when the name is a directory or names another revision itself.
std::filesystem::path resolve_model(const std::string& name_or_path, const std::string& revision);

}  // namespace kvlingua
