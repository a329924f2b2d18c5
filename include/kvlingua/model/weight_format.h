// How a model's large matrices are held in memory. Norms, biases, embedding and head are always
// dense.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace kvlingua {

enum class WeightFormat {
  kDense,  // in the compute type
  kNf4,    // four bits, a scale for 64: 4.5 bits a weight, 4.13 with quantised scales
  kInt8    // eight bits, a scale for each row
};
std::string_view to_string(WeightFormat format);  // "dense", "nf4", "int8"

struct WeightOptions {
  // Nothing: as the files hold them; bitsandbytes' codes stay codes, floats and GGUF become dense.
  std::optional<WeightFormat> format;
  bool double_quantization = true;  // nf4 made at load: its scales are quantised too
};

// "auto", "dense", "nf4", "int8". Throws Error (kUsage).
WeightOptions weight_options(std::string_view name, bool double_quantization = true);

}  // namespace kvlingua
