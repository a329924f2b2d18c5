// Persona fingerprints, self-recognition and identity transfer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/config/options.h"

namespace kvlingua {

struct IdentityOptions {
  std::string personas;
  std::string format = "chat";
  int64_t wordings = 0;
  int64_t prompts_per_group = 0;
  int64_t new_tokens = 50;
  int64_t batch_size = 16;
  bool equal_length = true;
  int64_t permutations = 999;
  int64_t bootstrap = 2000;
  double confidence = 0.95;
  double margin = 0.10;
  int64_t trees = 200;
  bool extras = true;
  bool recognition = true;
  bool transfer = true;
  int64_t seed = 42;

  template <class V>
  void visit(V& v) {
    v.field(
        "personas", personas,
        {.help = "personas, neutral topics and prompts (YAML or JSON); empty: the built-in ones"});
    v.field("format", format,
            {.help = "how system text and prompt become one: the model's chat template, or markup",
             .choices = {"chat", "plain", "chatml", "llama3"}});
    v.field("wordings", wordings,
            {.help = "first N wordings of each persona and topic; 0 = all", .min = 0, .max = 100});
    v.field("prompts_per_group", prompts_per_group,
            {.help = "first N prompts of each group; 0 = all", .min = 0, .max = 1e4});
    v.field("new_tokens", new_tokens,
            {.help = "written greedily before the cache is measured", .min = 0, .max = 4096});
    v.field("batch_size", batch_size, {.help = "prompts read together", .min = 1, .max = 4096});
    v.field("equal_length", equal_length,
            {.help = "cut system texts to the shortest one's tokens (15 % at most)"});
    v.field("permutations", permutations,
            {.help = "whole texts dealt anew to the personas", .min = 99, .max = 1e6});
    v.field("bootstrap", bootstrap,
            {.help = "resamples of every interval", .min = 100, .max = 1e6});
    v.field("confidence", confidence, {.help = "of every interval", .min = 0.5, .max = 0.9999});
    v.field("margin", margin,
            {.help = "accuracy above the neutral topics' that counts as nothing when the whole "
                     "interval lies below it",
             .min = 0.01,
             .max = 0.5});
    v.field("trees", trees, {.help = "of the random forest", .min = 1, .max = 10000});
    v.field("extras", extras,
            {.help = "random forest, linear SVM, logistic regression and LDA beside the headline"});
    v.field("recognition", recognition,
            {.help = "ask the model itself which persona a cache is of"});
    v.field("transfer", transfer,
            {.help = "translate persona caches into the target (recipes with a checkpoint)"});
    v.field("seed", seed, {.help = "of bootstraps, permutations and classifiers", .min = 0});
  }
};

}  // namespace kvlingua
