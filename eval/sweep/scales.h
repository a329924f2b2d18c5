// The named scales of a sweep, and the names that results are filed under.
#pragma once

#include <string>
#include <vector>

namespace kvlingua {

struct Scale {
  std::string key;    // "0.6B", "7B-q4", ...; "custom" for a model named by itself
  std::string model;  // hub name or directory
  bool quantize = false;
  double billions = 0;  // parameters; 0: not known
};

const std::vector<Scale>& known_scales();
// "32B" is 32B-q4. Throws Error (kUsage) with the nearest key.
Scale find_scale(const std::string& key);

// After the last "/", without -Instruct, -Chat and the like; TinyLlama-* is TinyLlama-1.1B; "-q4"
// when quantised.
std::string model_id(const std::string& model, bool quantize);

}  // namespace kvlingua
