// All of eval/statistics in one include: intervals, tests, effect sizes, resampling, equivalence,
// regression, power, duplicates. No torch, no I/O; every random draw is seeded. Goldens:
// scripts/goldens/statistics_goldens.py.
#pragma once

#include "eval/statistics/clustered.h"    // IWYU pragma: export
#include "eval/statistics/duplicates.h"   // IWYU pragma: export
#include "eval/statistics/effect_size.h"  // IWYU pragma: export
#include "eval/statistics/equivalence.h"  // IWYU pragma: export
#include "eval/statistics/interval.h"     // IWYU pragma: export
#include "eval/statistics/power.h"        // IWYU pragma: export
#include "eval/statistics/regression.h"   // IWYU pragma: export
#include "eval/statistics/resampling.h"   // IWYU pragma: export
#include "eval/statistics/tests.h"        // IWYU pragma: export
