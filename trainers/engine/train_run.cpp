#include "trainers/engine/train_run.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/config/paths.h"
#include "trainers/stages.h"

namespace kvlingua {

namespace fs = std::filesystem;

Provenance Stage::provenance() const {
  return {stage_recipe(run_.recipe(), name_, static_cast<int64_t>(run_.seed())), data_sha256(),
          start_sha256()};
}

TrainRun::TrainRun(const Recipe& recipe, const RunContext& context)
    : recipe_(recipe),
      context_(context),
      device_(context.device),
      seed_(static_cast<uint64_t>(context.seed_or(recipe.train.seed))),
      folder_(recipe, context) {
  for (const std::string& name : asked()) stages_.push_back(make_stage(name, *this));
}

PairData& TrainRun::pairs() {
  if (!pairs_) pairs_ = std::make_unique<PairData>(*this);
  return *pairs_;
}

// Those of one run learn from the same.
std::vector<std::string> TrainRun::asked() const {
  if (!context_.stage.empty()) return {context_.stage};
  const std::vector<std::string>& names = recipe_.train.stages;
  const auto from = [](const std::string& name) { return find_stage(name)->from; };
  const auto other = [&](const std::string& name) { return from(name) != LearnsFrom::kPairs; };
  const auto odd = std::find_if(names.begin(), names.end(), other);
  if (odd == names.end() || std::all_of(names.begin(), names.end(), other)) return names;
  throw Error({.code = ExitCode::kUsage,
               .where = "train.stages",
               .what = cat(*odd, " learns from ", to_string(from(*odd)), ", the other stages from ",
                           to_string(LearnsFrom::kPairs)),
               .got = cat(names.size(), " stages"),
               .expected = cat(*odd, " alone")});
}

std::string TrainRun::earlier_stage(const std::string& stage) const {
  const auto& order = recipe_.train.stages;
  const auto mine = std::find(order.begin(), order.end(), stage);
  for (auto it = std::make_reverse_iterator(mine); it != order.rend(); ++it) {
    if (std::string found = folder_.find(*it, peers_); !found.empty()) return found;
  }
  return {};
}

std::string TrainRun::start_folder(const std::string& stage) const {
  if (std::string found = earlier_stage(stage); !found.empty()) return found;
  if (recipe_.train.start_from.empty()) return {};
  const fs::path from = follow_link(resolve_path(recipe_.train.start_from));
  if (fs::exists(from / "projector.json")) return from.string();
  const auto found = find_checkpoint(from);
  return found ? found->path.string() : std::string();
}

void TrainRun::refuse_other_stages() {
  const auto refuse = [&](const Stage& stage) {
    const std::string where = folder_.find(stage.name(), peers_);
    if (!where.empty()) folder_.refuse_other(read_checkpoint(where), where, stage.provenance());
  };
  if (!context_.restart)
    for (const auto& stage : stages_) refuse(*stage);
  // Of one stage alone, those before it are what it begins with.
  const auto& order = recipe_.train.stages;
  const StageFacts* first = find_stage(stages_.front()->name());
  for (auto it = order.begin(); it != order.end() && *it != first->name; ++it)
    if (find_stage(*it)->from == first->from) refuse(*make_stage(*it, *this));
}

RunTable TrainRun::make_table() const {
  MachineNumbers machine;
  set_memory(machine, device_);
  machine.flops = machine.flops_float32 = product_rate(device_, at::kFloat);
  const at::ScalarType fastest = fastest_type(device_);
  RunTable table{
      .product_rate = machine.flops_float32,
      .peak_rate = fastest == at::kFloat ? machine.flops_float32 : product_rate(device_, fastest)};
  const Stage& first = *stages_.front();
  const PairIdentity pair = first.pair();
  char rate[64];
  std::snprintf(rate, sizeof rate, ", %.0f GFLOP/s measured", table.product_rate / 1e9);
  std::string rates = rate;
  if (fastest != at::kFloat) {
    std::snprintf(rate, sizeof rate, ", %.0f in %s", table.peak_rate / 1e9, c10::toString(fastest));
    rates += rate;
  }
  table.lines = {{"run", recipe_.run_name()},
                 {"source", recipe_.pair.source.name + ", " + pair.source.shape.describe()},
                 {"target", recipe_.pair.target.name + ", " + pair.target.shape.describe()},
                 {"projector", recipe_.projector.kind + ", " + recipe_.projector.dtype}};
  for (Stage::Line& line : first.data_lines()) table.lines.push_back(std::move(line));
  table.lines.emplace_back("device", context_.device + rates);
  for (const auto& stage : stages_) {
    table.stages.push_back(stage->plan(machine));
    table.facts.push_back(stage->plan_facts());
  }
  return table;
}

Checkpoint TrainRun::checkpoint_of(const Projector& projector, const TrainState& state,
                                   const Stage& stage) const {
  Checkpoint c;
  c.state = state;
  c.pair = stage.pair();
  c.projector_config = projector.config();
  c.projector = projector.state();
  c.rng = RngState::capture();
  c.recipe_yaml = recipe_.to_yaml();
  c.made_by = stage.provenance().to_json();
  return c;
}

TrainResult TrainRun::execute() {
  TrainResult result;
  result.table = table_ = make_table();
  result.dry_run = context_.dry_run;
  if (result.dry_run) return result;
  peers_ = Peers(context_);
  // Looked at before anything is removed or written.
  refuse_other_stages();
  if (peers_.main()) {
    folder_.open(context_.stage.empty() ? std::vector<std::string>{} : asked());
    folder_.begin();
  }
  peers_.wait();
  folder_.remark(result.table.text());
  for (auto& stage : stages_) {
    run(*stage);
    stage.reset();  // what it held is the next one's to use
  }
  result.stages = folder_.results();
  return result;
}

Pace TrainRun::pace(const std::string& stage) const {
  const auto found = std::find_if(table_.stages.begin(), table_.stages.end(),
                                  [&](const StagePlan& plan) { return plan.name == stage; });
  if (found == table_.stages.end()) return {};
  return {
      .step_products = found->products / static_cast<double>(std::max<int64_t>(found->steps, 1)),
      .peak_rate = table_.peak_rate * static_cast<double>(context_.world.size)};
}

nlohmann::ordered_json TrainRun::took(const std::string& stage) const {
  nlohmann::ordered_json out = meter_->to_json();
  double steps = 0, seconds = 0;
  for (const auto& [name, phase] : meter_->phases()) {
    const bool stepping = name == "first_step" || name == "steps";
    if (stepping || name == "prepare" || name == "gather" || name == "solve")
      seconds += phase.seconds;
    if (stepping) steps += phase.units;
    if (name == "gather") steps = 1;  // ridge has one: the pass and its solution
  }
  if (const Pace pace_here = pace(stage); pace_here.known() && steps > 0) {
    out["peak_share"] = pace_here.share(steps, seconds);
    out["peak_flops"] = pace_here.peak_rate;
  }
  return out;
}

void TrainRun::run(Stage& stage) {
  const std::string where = folder_.find(stage.name(), peers_);
  StageStart start;
  if (!where.empty()) start = {read_checkpoint(where), where, true};
  if (start.resumed && start.checkpoint->state.stage_finished) {
    folder_.adopt(*start.checkpoint, where);
    return;
  }
  TrainState state;
  if (start.resumed) {
    folder_.resume(*start.checkpoint, where);
    state = start.checkpoint->state;
  } else {
    start = stage.start();
  }
  state.stage = stage.name();
  const ProfileRange range("train " + stage.name());
  meter_.emplace(device_);
  stage.begin(state, start);
  while (stage.step(state)) continue;
  stage.validate(state);
  stage.finish(state);
  // The next stage reads what this one has written.
  folder_.wait();
  peers_.wait();
  folder_.measured(took(stage.name()));
}

}  // namespace kvlingua
