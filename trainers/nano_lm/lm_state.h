// The state of a language-model run on disk: weights, moments and the step, in one file replaced
// atomically.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "trainers/nano_lm/lm_optimizer.h"

namespace kvlingua {

// `recipe`: the resolved options, so that nobody resumes with others.
void save_lm_state(const std::filesystem::path& work, const std::string& recipe, int64_t step,
                   const NamedTensors& parameters, const LmOptimizer& optimizer);

// Steps done, after filling `parameters` and `optimizer`; nothing when `work` holds no state.
// Throws Error (kInput) when the state belongs to other options, kCorrupt when it is damaged.
std::optional<int64_t> load_lm_state(const std::filesystem::path& work, const std::string& recipe,
                                     NamedTensors& parameters, LmOptimizer& optimizer);

}  // namespace kvlingua
