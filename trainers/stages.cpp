#include "trainers/stages.h"

#include "kvlingua/base/error.h"

namespace kvlingua {

#define STAGE(id, name, from, condition, minimises, decided_by, make, cost) \
  std::unique_ptr<Stage> make(TrainRun& run);                               \
  StageCost cost();
#include "kvlingua/config/stages.def"
#undef STAGE

namespace {

struct Row {
  const char* name;
  std::unique_ptr<Stage> (*make)(TrainRun& run);
  StageCost (*cost)();
};

const Row& row_of(const std::string& asked) {
  static const Row rows[] = {
#define STAGE(id, name, from, condition, minimises, decided_by, make, cost) {name, make, cost},
#include "kvlingua/config/stages.def"
#undef STAGE
  };
  for (const Row& row : rows)
    if (asked == row.name) return row;
  throw Error({.code = ExitCode::kUsage,
               .where = "train.stages",
               .what = "stage is not in this version",
               .got = printable(asked)});
}

}  // namespace

std::unique_ptr<Stage> make_stage(const std::string& name, TrainRun& run) {
  return row_of(name).make(run);
}

StageCost cost_of(const std::string& name) { return row_of(name).cost(); }

}  // namespace kvlingua
