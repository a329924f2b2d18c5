// Recipe: everything a run needs, read from YAML (or JSON), with every default filled in.
//
// Cache-to-Cache's recipe files (top-level `model` and `training`) load too: their keys are
// translated, and notes() say aloud which of them have no effect here (c2c_recipe.h).
//
// A recipe may begin where another one ends: `extends: common.inc`, relative to its own folder.
// Keys that it gives win, lists as a whole; the resolved recipe stands for itself.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/config/checkpoint_options.h"
#include "kvlingua/config/data_options.h"
#include "kvlingua/config/eval_options.h"
#include "kvlingua/config/identity_options.h"
#include "kvlingua/config/options.h"
#include "kvlingua/config/pair_options.h"
#include "kvlingua/config/projector_options.h"
#include "kvlingua/config/sweep_options.h"
#include "kvlingua/config/train_options.h"

namespace kvlingua {

struct Recipe {
  std::string name;  // letters, digits, . _ + -; empty in a file: the file's stem
  std::string description;
  std::string extends;  // empty once it has been read
  PairOptions pair;
  DataOptions data;
  ProjectorOptions projector;
  TrainOptions train;
  CheckpointOptions checkpoint;
  EvalOptions eval;
  SweepOptions sweep;
  IdentityOptions identity;

  std::filesystem::path file;  // where it was read; not a field
  // What the reader should be told (C2C keys without effect); not a field.
  std::vector<std::string> notes;

  // `overrides`: "a.b=c", applied in order after the file. Throws Error (kUsage) with
  // file:line:column.
  static Recipe load(const std::filesystem::path& file,
                     const std::vector<std::string>& overrides = {});
  static Recipe from_yaml(std::string_view text, const std::string& file,
                          const std::vector<std::string>& overrides = {});
  // As load, collecting every problem instead of throwing the first.
  static std::vector<Problem> check(const std::filesystem::path& file,
                                    const std::vector<std::string>& overrides = {});

  std::string to_yaml() const;  // resolved: every field, defaults included
  // Of to_yaml(): equal for recipes that mean the same, whatever their comments and order.
  std::string recipe_sha256() const;

  std::string dataset_name() const { return data.name.empty() ? name : data.name; }
  std::string run_name() const { return checkpoint.name.empty() ? name : checkpoint.name; }

  template <class V>
  void visit(V& v) {
    v.field("name", name,
            {.help = "names datasets/<name> and checkpoints/<name>; empty: the file's name"});
    v.field("description", description, {.help = "one line"});
    v.field("extends", extends,
            {.help = "another recipe file that this one changes, relative to its folder"});
    v.section("pair", pair, "the two models");
    v.section("data", data, "text and stored caches");
    v.section("projector", projector, "the map between the caches");
    v.section("train", train, "stages of training");
    v.section("checkpoint", checkpoint, "what is saved");
    v.section("eval", eval, "what is asked and what passes");
    v.section("sweep", sweep, "scale sweep");
    v.section("identity", identity, "personas");
  }
};

}  // namespace kvlingua
