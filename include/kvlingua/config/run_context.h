// RunContext: what a stage is told besides the recipe. Made by main.cpp from the command line and
// the environment.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlingua/config/paths.h"
#include "kvlingua/config/world.h"

namespace kvlingua {

struct RunContext {
  std::string device_asked = "auto";  // as the recipe or --device says
  std::string device = "cpu";         // resolved: cpu, cuda:0, cuda:1 ... (never auto)
  std::optional<int64_t> seed;        // --seed; empty: what the recipe says
  RunPaths paths;
  World world;
  // On a CPU: threads that each read and decode pieces of work of their own. 1 unless the models
  // are too small for threads to share a matrix product.
  int64_t workers = 1;
  int verbosity = 0;                 // -1 quiet (no progress), 0, 1 verbose
  bool resume = true;                // go on with what is there
  bool restart = false;              // --restart: throw away what this verb made before
  bool dry_run = false;              // print the plan, do nothing
  bool skip_bad = false;             // --skip-bad, wins over data.skip_bad
  int64_t limit = 0;                 // --limit N; 0 = no limit
  int64_t rehearsal = 0;             // a small run of a recipe with so many training rows; 0: none
  std::string stage;                 // --stage; empty = all of train.stages
  std::string checkpoint;            // --checkpoint DIR; empty = the run's latest
  std::vector<std::string> compare;  // --compare A B
  bool confirm = false;              // evaluate --confirm
  int64_t seeds = 1;                 // train --seeds N

  int64_t seed_or(int64_t recipe_seed) const { return seed.value_or(recipe_seed); }
  bool quiet() const { return verbosity < 0; }
};

}  // namespace kvlingua
