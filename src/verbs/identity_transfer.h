// Identity transfer and self-recognition as parts of identity.
#pragma once

#include "eval/personas/transfer.h"
#include "geometry_run.h"

namespace kvlingua::verbs {

// {self_recognition, identity_transfer, failed: [...]} of a recipe's pair and run; where there is
// no checkpoint, or its projector lets the target read the text, identity_transfer says so.
Json recipe_transfer(const GeometryRun& run, const RunContext& context,
                     const IdentityDesign& design, const IdentityOptions& options,
                     const std::filesystem::path& file);
// {self_recognition, failed} of one model's own caches.
Json model_recognition(const OpenedModel& opened, const IdentityDesign& design,
                       const IdentityOptions& options, const std::filesystem::path& file,
                       bool resume);

}  // namespace kvlingua::verbs
