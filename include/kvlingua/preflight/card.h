// A card that is not here: plans for it are made from its published figures, before it is borrowed.
#pragma once

#include <string>
#include <string_view>

#include "kvlingua/cost/numbers.h"

namespace kvlingua {

struct Card {
  std::string name;       // "RTX 3090", or "a card with 6 GB"
  double memory = 0;      // bytes, by its name: 24 GB are 24 GiB
  bool bfloat16 = false;  // native
  // Half of the published dense peak, which large products reach, in FLOP/s and bytes a second.
  double half_flops = 0, flops_float32 = 0, flops_float64 = 0, bandwidth = 0;
};

// "gtx1660", "rtx3090", "a100-40gb" ..., or a size: "6GB", "24". Of a size the rates are those of
// the smallest card known that has as much. Throws Error (kUsage) with the nearest name.
Card find_card(std::string_view text);
// What stages are planned with. Its disk is not known: -1 free.
MachineNumbers machine_of(const Card& card);

}  // namespace kvlingua
