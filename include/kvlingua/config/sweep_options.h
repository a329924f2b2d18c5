// The scale sweep: cognitive modes over models, and projectors over pairs of scales.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/config/options.h"

namespace kvlingua {

struct SweepOptions {
  std::vector<std::string> models;
  std::vector<std::string> sources;
  std::vector<std::string> targets;
  std::vector<std::string> pairs;
  std::vector<std::string> cell;
  bool modes = true;
  std::string prompts;
  std::vector<std::string> categories;
  int64_t prompts_per_category = 0;
  int64_t new_tokens = 30;
  int64_t batch_size = 16;
  int64_t bootstrap = 10000;
  int64_t permutations = 999;
  double confidence = 0.95;
  int64_t seed = 42;
  int64_t geometry_prompts = 60;

  template <class V>
  void visit(V& v) {
    v.field("models", models,
            {.help = "models whose cognitive modes are measured, small to large; empty: the pair"});
    v.field("modes", modes, {.help = "measure cognitive modes; false: the projector grid alone"});
    v.field("sources", sources,
            {.help = "source models of the projector grid: each is paired with each target, "
                     "trained and evaluated by this recipe"});
    v.field("targets", targets, {.help = "target models of the projector grid"});
    v.field("pairs", pairs, {.help = "more cells of the grid, each as \"source -> target\""});
    v.field("cell", cell,
            {.help = "keys that are different in every cell, as --set takes them: a.b=c"});
    v.field(
        "prompts", prompts,
        {.help = "prompts by category (YAML or JSON); empty: the thirteen built-in categories"});
    v.field("categories", categories, {.help = "only these categories; empty: all of the file"});
    v.field("prompts_per_category", prompts_per_category,
            {.help = "first N of each category; 0 = all", .min = 0, .max = 1e5});
    v.field("new_tokens", new_tokens,
            {.help = "written greedily before the cache is measured; 0 = the prompt alone",
             .min = 0,
             .max = 4096});
    v.field("batch_size", batch_size, {.help = "prompts read together", .min = 1, .max = 4096});
    v.field("bootstrap", bootstrap,
            {.help = "resamples of every interval", .min = 100, .max = 1e6});
    v.field("permutations", permutations,
            {.help = "shuffles of the rank comparison between scales", .min = 99, .max = 1e6});
    v.field("confidence", confidence, {.help = "of every interval", .min = 0.5, .max = 0.9999});
    v.field("seed", seed, {.help = "of bootstraps and permutations", .min = 0});
    v.field("geometry_prompts", geometry_prompts,
            {.help = "prompts translated by each projector to compare effective ranks; 0 = none",
             .min = 0,
             .max = 1e5});
    require_once(v, "models", models);
    require_once(v, "sources", sources);
    require_once(v, "targets", targets);
    require_once(v, "pairs", pairs);
    require_once(v, "categories", categories);
    v.require(sources.empty() == targets.empty(), sources.empty() ? "sources" : "targets",
              "is empty and the other side of the grid is not; give both, or sweep.pairs");
    for (const std::string& pair : pairs)
      v.require(pair.find("->") != std::string::npos, "pairs",
                cat("holds ", pair, ", which is no pair; write \"source -> target\""));
    std::vector<std::string> keys;
    for (const std::string& key : cell) {
      v.require(key.find('=') != std::string::npos, "cell",
                cat("holds ", key, ", which sets nothing; write a.b=c"));
      keys.push_back(key.substr(0, key.find('=')));
    }
    require_once(v, "cell", keys);
  }
};

}  // namespace kvlingua
