// Controls: caches that look like the judged one and say nothing, or something else. A criterion
// that they pass measures nothing.
#pragma once

#include <memory>
#include <string>

#include "eval/conditions/condition.h"
#include "kvlingua/projector/projector.h"

namespace kvlingua {

// Whose cache the controls imitate: a projector's translation, or (null) the target's own.
struct Imitated {
  std::string name;  // of the judged condition
  const Projector* projector = nullptr;
};

// Gaussian keys and values with the mean and deviation that the imitated caches have in each layer,
// head and channel.
std::unique_ptr<Condition> make_noise(const Imitated& imitated);
// Another item's cache (Block::partner), as long as that item's context is; the question follows
// it.
std::unique_ptr<Condition> make_shuffled(const Imitated& imitated);
// Every token holds the mean over the item's tokens.
std::unique_ptr<Condition> make_averaged(const Imitated& imitated);
// Of a projector that fuses: the target's own cache as it should be, the source's of another item
// (aligned token by token, the last one repeated). What the source adds must get lost.
std::unique_ptr<Condition> make_wrong_source(const Imitated& imitated);

}  // namespace kvlingua
