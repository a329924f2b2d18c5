// The source's cache through a projector: what a run is about. The target never reads the context
// (but where the kind fuses).
#pragma once

#include <memory>
#include <string>

#include "eval/conditions/condition.h"
#include "kvlingua/projector/projector.h"

namespace kvlingua {

// `checkpoint` is said in the definition. The projector must outlive the condition.
std::unique_ptr<Condition> make_projected(const std::string& name, const Projector& projector,
                                          const std::string& checkpoint);

}  // namespace kvlingua
