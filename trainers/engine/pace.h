// Pace: how near a stage's steps come to what its device can do.
#pragma once

#include <algorithm>

namespace kvlingua {

struct Pace {
  // Operations of the matrix products of one optimizer step, as the stage's plan counts them from
  // shapes (StagePlan::products), of all processes together; 0: not known.
  double step_products = 0;
  // The most of them a second that was measured on this device, in the type that it is fastest in,
  // times the number of processes.
  double peak_rate = 0;

  bool known() const { return step_products > 0 && peak_rate > 0; }
  double share(double steps, double seconds) const {
    return steps * step_products / (std::max(seconds, 1e-9) * peak_rate);
  }
};

}  // namespace kvlingua
