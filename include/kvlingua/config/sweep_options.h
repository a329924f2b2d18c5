// Scale sweep: projectors and fidelity over scales.
#pragma once

#include <string>
#include <vector>

#include "kvlingua/config/options.h"

namespace kvlingua {

struct SweepOptions {
  std::vector<std::string> sources;
  std::vector<std::string> targets;

  template <class V>
  void visit(V& v) {
    v.field("sources", sources, {.help = "source models, small to large"});
    v.field("targets", targets, {.help = "target models, small to large"});
  }
};

}  // namespace kvlingua
