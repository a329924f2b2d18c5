// Conditions in which the target reads plain text: the floor, the ceiling, the wrong context, and a
// message from the source.
#pragma once

#include <memory>

#include "eval/conditions/condition.h"

namespace kvlingua {

std::unique_ptr<Condition> make_baseline();
std::unique_ptr<Condition> make_full_text();
std::unique_ptr<Condition> make_wrong_text();
std::unique_ptr<Condition> make_text_message();

}  // namespace kvlingua
