// raw: phase 2a's procedure, and the shifted and repaired pastes that test its explanation.
//
// Phase 2a took the cache of a source prompt and of what the same model wrote after it, without a
// chat template, and let the same model read a second prompt (with its own beginning-of-text token)
// at the positions after it, saw no transfer, and blamed rotary embeddings. Those positions are
// consistent, so `raw` must equal reading the same tokens as one text (raw_text).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "eval/conditions/condition.h"

namespace kvlingua {

std::unique_ptr<Condition> make_raw();
std::unique_ptr<Condition> make_raw_text();
// The target's own cache of prefix and context, read from position `shift` on and pasted as if it
// began at 0. Not re-rotated, every distance to the question is wrong by `shift`; re-rotated, it
// must equal full_text again.
std::unique_ptr<Condition> make_raw_shifted(const std::string& name, int64_t shift);
std::unique_ptr<Condition> make_raw_rerotated(const std::string& name, int64_t shift);

}  // namespace kvlingua
