// Partial transfer: only some layers, tokens, keys or values of the judged cache arrive. What does
// not is filled with the mean over all items of the block, which says nothing about this one;
// tokens that are not chosen are left out altogether.
#pragma once

#include <memory>

#include "eval/conditions/controls.h"
#include "kvlingua/config/eval_options.h"

namespace kvlingua {

// Throws Error (kUsage) for layers that the target does not have.
std::unique_ptr<Condition> make_partial(const PartialOptions& options, const Imitated& imitated,
                                        const KvShape& target);

}  // namespace kvlingua
