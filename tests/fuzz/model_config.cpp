// layers: base io
// Any text as config.json: refused with kCorrupt or kInput, or a config whose own to_json() reads
// back as the same.
#include "kvlingua/model/model_config.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "../../src/model/gguf_model.cpp"
#include "../../src/model/model_config.cpp"  // its layer links torch, it does not need it
#include "kvlingua/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvlingua;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ModelConfig config;
  try {
    config = ModelConfig::from_json(text, text);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kCorrupt && error.code() != ExitCode::kInput) std::abort();
    return 0;
  }
  if (config.parameter_count() <= 0 || config.num_heads % config.num_kv_heads != 0) std::abort();
  if (!std::isfinite(config.rope.attention_factor) || config.rope.attention_factor <= 0)
    std::abort();
  const std::string written = config.to_json();
  const ModelConfig back = ModelConfig::from_json(written);  // an Error here is a finding
  if (back.to_json() != written || back.rope != config.rope) std::abort();
  return 0;
}
