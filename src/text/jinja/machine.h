// Runs a template's tree.
#pragma once

#include "tree.h"

namespace kvlingua::text::jinja {

// What the template prints. `variables`: an object. Throws Error (kInput) for what it raises, what
// is not understood and what takes too long.
std::string run(const Block& block, const Json& variables);

}  // namespace kvlingua::text::jinja
