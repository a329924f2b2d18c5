#include "eval/sweep/scales.h"

#include "kvlingua/base/error.h"
#include "kvlingua/base/nearest.h"

namespace kvlingua {

const std::vector<Scale>& known_scales() {
  static const std::vector<Scale> scales = {
      {"0.5B", "Qwen/Qwen2.5-0.5B-Instruct", false, 0.5},
      {"0.6B", "Qwen/Qwen3-0.6B", false, 0.6},
      {"1.1B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", false, 1.1},
      {"2B", "google/gemma-2-2b-it", false, 2},
      {"3B", "Qwen/Qwen2.5-3B-Instruct", false, 3},
      {"3.8B", "microsoft/Phi-3.5-mini-instruct", false, 3.8},
      {"7B", "Qwen/Qwen2.5-7B-Instruct", false, 7},
      {"7B-q4", "Qwen/Qwen2.5-7B-Instruct", true, 7},
      {"7B-mistral", "mistralai/Mistral-7B-Instruct-v0.3", false, 7},
      {"7B-ds", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", false, 7},
      {"8B", "meta-llama/Llama-3.1-8B-Instruct", false, 8},
      {"9B", "google/gemma-2-9b-it", false, 9},
      {"14B", "Qwen/Qwen2.5-14B-Instruct", false, 14},
      {"14B-ds", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", false, 14},
      {"32B-q4", "Qwen/Qwen2.5-32B-Instruct", true, 32},
      {"70B-q4", "meta-llama/Llama-3.1-70B-Instruct", true, 70}};
  return scales;
}

Scale find_scale(const std::string& key) {
  std::vector<std::string> names;
  for (const Scale& scale : known_scales()) {
    if (scale.key == key || (key == "32B" && scale.key == "32B-q4")) return scale;
    names.push_back(scale.key);
  }
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  const std::string nearest = nearest_name(key, names);
  throw Error({.code = ExitCode::kUsage,
               .where = "--scale",
               .what = "no such scale",
               .got = printable(key, 40),
               .expected = all,
               .remedy = nearest.empty() ? "" : "did you mean " + nearest + "?"});
}

std::string model_id(const std::string& model, bool quantize) {
  std::string id = model;
  while (!id.empty() && id.back() == '/') id.pop_back();
  const size_t slash = id.rfind('/');
  id = id.substr(slash + 1);
  if ((id == "source" || id == "target") && slash != std::string::npos)  // of an embedded pair
    id = model_id(model.substr(0, slash), false) + "-" + id;
  if (id.starts_with("TinyLlama-") || id == "TinyLlama") id = "TinyLlama-1.1B";
  for (const char* ending : {"-Chat-v1.0", "-Chat-v1.1", "-Chat", "-Instruct", "-Base"})
    if (id.ends_with(ending)) {
      id.resize(id.size() - std::string(ending).size());
      break;
    }
  for (char& c : id)
    if (c == '@') c = '-';
  return (id.empty() ? "model" : id) + (quantize ? "-q4" : "");
}

}  // namespace kvlingua
