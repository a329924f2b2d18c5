// Which findings of an older results file of identity signatures (the users' or ours) the new one
// upholds. Their claims are read as their report makes them: a pair by |d| above .3, personas by
// their permutation test and by accuracy above chance in groups of prompts left out, consistency by
// an intraclass correlation above .5. Ours answer with length taken out, wordings left out and
// neutral topics beside.
#pragma once

#include <nlohmann/json.hpp>

#include "kvlingua/config/identity_options.h"

namespace kvlingua {

// [{finding, old, old_claims, new, survives}]; survives: "yes", "no", "the other way round",
// "undecided", "made no claim", "not measured here". Throws Error (kInput): not such a file.
nlohmann::ordered_json compare_signatures(const nlohmann::ordered_json& now,
                                          const nlohmann::json& old,
                                          const IdentityOptions& options);

}  // namespace kvlingua
