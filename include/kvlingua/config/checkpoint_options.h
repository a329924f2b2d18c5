// When checkpoints are written and which are kept.
#pragma once

#include <cstdint>
#include <string>

#include "kvlingua/config/options.h"

namespace kvlingua {

struct CheckpointOptions {
  std::string name;
  int64_t every = 500;
  int64_t keep_last = 2;
  int64_t keep_best = 1;
  bool background = true;

  template <class V>
  void visit(V& v) {
    v.field("name", name, {.help = "folder under checkpoints/; empty: the recipe's name"});
    v.field("every", every,
            {.help = "steps between checkpoints; 0 = only at the end of a stage", .min = 0});
    v.field("keep_last", keep_last, {.help = "newest to keep", .min = 1});
    v.field("keep_best", keep_best, {.help = "best by validation to keep", .min = 0});
    v.field("background", background, {.help = "write off the training thread"});
  }
};

}  // namespace kvlingua
