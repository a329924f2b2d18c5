// The stages of `kvlingua train`, as everything but training itself knows them: by name, what they
// learn from and what evaluation calls their result. The rows stand in stages.def, where a stage is
// added; how each is made and what it costs is read from the same rows by trainers/stages.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kvlingua {

struct TrainOptions;

// What a stage reads; stages of one run learn from one of these.
enum class LearnsFrom { kPairs, kConversations };
const char* to_string(LearnsFrom from);  // "pairs", "conversations"

struct StageFacts {
  const char* name;
  LearnsFrom from;
  const char* condition;
  const char* minimises;
  const char* decided_by;

  // What it minimises under these options, in words.
  std::string losses(const TrainOptions& options) const;
  // Sections of a recipe that decide what comes out, with a projector of this kind; train.<name> is
  // one of them.
  std::vector<std::string> sections(const std::string& projector_kind) const;
};

// In the order in which they usually follow each other.
const std::vector<StageFacts>& stages();
// Null for another name.
const StageFacts* find_stage(std::string_view name);
// The stage whose result evaluation calls so; null for another condition.
const StageFacts* stage_of_condition(std::string_view condition);
// Literals.
std::vector<std::string_view> stage_names();
std::vector<std::string_view> stage_conditions();

// kRidgeStage, ...: their names, for code that is about one of them.
#define STAGE(id, name, ...) inline constexpr const char* k##id##Stage = name;
#include "kvlingua/config/stages.def"
#undef STAGE

// The control beside the ridge stage: the map of the one layer at the same relative depth.
inline constexpr const char* kRidgeControl = "ridge_aligned";

}  // namespace kvlingua
