// The stage c2c of `kvlingua train`: Cache-to-Cache's own training, from conversations instead of
// stored pairs. Checkpoints, logs and resuming are those of the other stages (train.h).
//
// train.start_from may name a Cache-to-Cache checkpoint folder: its projectors are taken over, and
// where a training_state.pt lies beside them (its own program writes that and cannot read it) the
// optimizer's moments, the schedule and the temperature go on from there too. The order of the data
// is not in it, so that is this program's own.
#pragma once

#include "trainers/train.h"

namespace kvlingua {

// As train(); for recipes whose only stage is c2c.
TrainResult train_c2c(const Recipe& recipe, const RunContext& context);

}  // namespace kvlingua
