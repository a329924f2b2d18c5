// Guards: what would make a number mean something else than it says. Each finding has a name; some
// withhold the verdict.
//
//   duplicate_items         the same context, prompt and markers under several ids: counted once
//   few_distinct_outputs    most answers under full_text are word for word the same: nothing is
//                           being told apart
//   shared_with_training    an item's context, or all its markers together, stand in a training
//                           text: left out
//   same_cache_differs      same_cache did not answer as full_text: the injection is broken
//                           (withholds)
//   raw_differs, rerotated_differs   the same for raw and raw_text, raw_rerotated and full_text
//   control_imitates        noise, shuffled or averaged handed over the very cache they must differ
//                           from (withholds)
//   control_above_baseline  a control answers better than the bare target: the items leak
//                           (withholds)
//   empty_family            nothing was left of a family after filtering
//
// Two say that a checkpoint is another recipe's. trained_by_another_recipe (training_record.h)
// compares all that training reads of the checkpoint's recipe.yaml, by section, later stages too,
// and so speaks of any checkpoint that keeps its recipe. recipe_differs (judged_checkpoints.cpp)
// names the first field that the judged stage itself was made from and that differs, and so needs
// the checkpoint's provenance.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/answers/answer.h"
#include "eval/items/probe.h"

namespace kvlingua {

struct Finding {
  std::string name;
  std::string text;
  bool withholds = false;  // no verdict while it stands
};

// Ids of probes that say the same as an earlier one.
std::vector<std::string> duplicate_items(const std::vector<Probe>& probes);

// Which probes a training text gives away, and where. `next` yields texts until it returns false.
struct Overlap {
  size_t probe = 0;      // index
  int64_t document = 0;  // running number of the text
  std::string what;      // "context" or "markers"
};
std::vector<Overlap> overlaps(const std::vector<Probe>& probes,
                              const std::function<bool(std::string&)>& next);

struct ControlCheck {
  std::string control, reference;  // "same_cache", "full_text"
  int64_t n = 0, equal = 0;        // items answered under both; token for token the same
  int64_t equal_scores = 0;        // items that both answer rightly or both do not
};
// In half precision a cache that was read in other steps, or whose keys were turned back and forth,
// rounds otherwise than the text, and a near tie may fall the other way. raw and raw_rerotated are
// then judged by their scores: at most this share of the items may score otherwise. same_cache is
// read in the text's own steps and must be equal in every precision.
inline constexpr double kHalfPrecisionBound = 0.02;
// For every control that has answers. same_cache, raw, raw_rerotated.
std::vector<ControlCheck> check_controls(const Answers& answers);

// All findings on answers. `distances`: relative distance of noise, shuffled and averaged from the
// cache they imitate (smallest seen). `half`: the target computes in float16 or bfloat16.
std::vector<Finding> check_answers(const Answers& answers,
                                   const std::map<std::string, double>& distances,
                                   bool half = false);

}  // namespace kvlingua
