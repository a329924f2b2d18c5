// layers: config
// A recipe, or a --set, from arbitrary bytes: it loads, and then its resolved form reads back to
// itself, or it is refused. layers: config
#include "kvlingua/config/recipe.h"

#include <cstdint>
#include <cstdlib>

#include "kvlingua/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using kvlingua::Recipe;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const Recipe recipe = text.starts_with("--set ")
                              ? Recipe::from_yaml("pair: {source: {name: a}, target: {name: b}}",
                                                  "r.yaml", {text.substr(6)})
                              : Recipe::from_yaml(text, "r.yaml");
    const std::string resolved = recipe.to_yaml();
    if (Recipe::from_yaml(resolved, "resolved.yaml").to_yaml() != resolved) std::abort();
  } catch (const kvlingua::Error&) {
  }
  return 0;
}
