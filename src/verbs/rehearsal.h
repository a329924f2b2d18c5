// Runs a recipe small in a process of its own, so that preflight knows what its stages take here.
#pragma once

#include "kvlingua/config/rehearsal.h"
#include "kvlingua/model/preflight.h"
#include "verbs.h"

namespace kvlingua::verbs {

// `keep` names a file when the work follows, and then nothing is rehearsed for a short run.
// Replaces time and memory of the plan's stages by what a small run of this program says. Where
// that cannot be (it cannot run here, or the small run failed) the plan stays as computed, and
// `preflight.rehearsal_problem` says why. What was measured is kept in `keep` (empty: nowhere) and
// taken from there when the recipe, device and threads are the same.
// Throws Error (kTerminated, kInterrupted) when asked to stop meanwhile.
void rehearse(Preflight& preflight, const RunContext& context, const std::filesystem::path& keep);

}  // namespace kvlingua::verbs
