// Persona fingerprinting, self-recognition and identity transfer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/config/options.h"

namespace kvlingua {

struct IdentityOptions {
  std::vector<std::string> personas;
  int64_t prompts = 50;

  template <class V>
  void visit(V& v) {
    v.field("personas", personas, {.help = "persona files (YAML)"});
    v.field("prompts", prompts, {.help = "prompts per persona", .min = 1});
  }
};

}  // namespace kvlingua
