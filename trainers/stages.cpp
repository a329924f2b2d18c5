#include "trainers/stages.h"

#include "kvlingua/base/error.h"

namespace kvlingua {

#define STAGE(id, name, from, condition, minimises, decided_by, make, ...) \
  std::unique_ptr<Stage> make(TrainRun& run);
#include "kvlingua/config/stages.def"
#undef STAGE

std::unique_ptr<Stage> make_stage(const std::string& asked, TrainRun& run) {
#define STAGE(id, name, from, condition, minimises, decided_by, make, ...) \
  if (asked == name) return make(run);
#include "kvlingua/config/stages.def"
#undef STAGE
  throw Error({.code = ExitCode::kUsage,
               .where = "train.stages",
               .what = "stage is not in this version",
               .got = printable(asked)});
}

}  // namespace kvlingua
