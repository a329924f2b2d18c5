#include "trainers/train.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "checkpoints/provenance.h"
#include "datasets/pairs/pair_manifest.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/base/random.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/paths.h"
#include "trainers/c2c/c2c_run.h"
#include "trainers/engine/plan.h"
#include "trainers/engine/train_run.h"

namespace kvlingua {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

namespace {

ModelIdentity identity_of(const ModelRecord& record) {
  return {record.name, record.architecture, record.weights, record.tokenizer, record.shape};
}

}  // namespace

TrainRun::TrainRun(const Recipe& recipe, const RunContext& context)
    : recipe_(recipe),
      context_(context),
      device_(context.device),
      seed_(static_cast<uint64_t>(context.seed_or(recipe.train.seed))),
      folder_(recipe, context) {
  const PairReader reader = PairReader::open(context.paths.dataset);
  info_ = reader.info();
  pairs_sha256_ = reader.manifest().sha256();
  for (int64_t s = 0; s < reader.shards(); ++s) {
    const ShardIndex& index = reader.shard(s).index();
    for (int64_t i = 0; i < index.samples(); ++i) {
      const auto at = static_cast<size_t>(i);
      validation_samples_ += index.use[at] == SampleUse::kValidation;
      if (index.use[at] == SampleUse::kTrain)
        train_rows_ += index.target_row_offsets[at + 1] - index.target_row_offsets[at];
    }
  }
  pair_ = {identity_of(info_.source), identity_of(info_.target), info_.alignment};
  const KvShape rows = row_shape(info_.source.shape, previous_tokens());
  row_bytes_ =
      8 * (rows.layers * rows.width() + info_.target.shape.layers * info_.target.shape.width());
  if (previous_tokens() > 0 && recipe.data.tokens_per_sample > 0) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "projector.ridge.previous_tokens",
                 .what = "the set holds some tokens of each sample only",
                 .got = cat("data.tokens_per_sample ", recipe.data.tokens_per_sample),
                 .expected = "whole samples",
                 .remedy = "set data.tokens_per_sample to 0"});
  }
}

int64_t TrainRun::previous_tokens() const {
  const std::string& kind = recipe_.projector.kind;
  return kind == "ridge" || kind == "mlp" ? recipe_.projector.ridge.previous_tokens : 0;
}

std::vector<std::string> TrainRun::stages() const {
  if (context_.stage.empty()) return recipe_.train.stages;
  return {context_.stage};
}

// `shared`: each process reads its part of every batch; else all read all of it.
std::unique_ptr<BatchSource> TrainRun::source(LoadUnit unit, LoadUse use, int64_t batch,
                                              int64_t epochs, bool shuffle, bool shared) const {
  return make_pair_source(context_.paths.dataset,
                          {.unit = unit,
                           .use = use,
                           .batch_size = batch,
                           .shuffle = shuffle,
                           .seed = mix(seed_, hash_name("data order")),
                           .epochs = epochs,
                           .device = device_,
                           .workers = recipe_.data.workers,
                           .previous_tokens = previous_tokens(),
                           .shuffle_pairs = recipe_.train.shuffle_pairs && use == LoadUse::kTrain,
                           .rank = shared ? peers_.rank() : 0,
                           .world = shared ? peers_.size() : 1});
}

Provenance TrainRun::provenance(const std::string& stage, const std::string& before) const {
  return {stage_recipe(recipe_, stage, static_cast<int64_t>(seed_)), pairs_sha256_,
          before.empty() ? "" : projector_sha256(before)};
}

std::string TrainRun::start_folder(const std::string& stage) const {
  const auto& order = recipe_.train.stages;
  const auto mine = std::find(order.begin(), order.end(), stage);
  for (auto it = std::make_reverse_iterator(mine); it != order.rend(); ++it) {
    if (std::string found = folder_.find(*it, peers_); !found.empty()) return found;
  }
  if (recipe_.train.start_from.empty() || stage == "ridge") return {};
  const fs::path from = follow_link(resolve_path(recipe_.train.start_from));
  if (fs::exists(from / "projector.json")) return from.string();
  const auto found = find_checkpoint(from);
  return found ? found->path.string() : std::string();
}

void TrainRun::refuse_other_stages() const {
  const auto& order = recipe_.train.stages;
  const std::vector<std::string> asked = stages();
  std::vector<std::string> kept = asked;
  // Of one stage alone, those before it are what it begins with.
  for (auto it = order.begin(); it != order.end() && *it != asked.front(); ++it)
    kept.push_back(*it);
  for (const std::string& stage : kept) {
    const bool anew =
        context_.restart && std::find(asked.begin(), asked.end(), stage) != asked.end();
    const std::string where = anew ? std::string() : folder_.find(stage, peers_);
    if (where.empty()) continue;
    const Checkpoint there = read_checkpoint(where);
    folder_.refuse_other(there, where, provenance(stage, start_folder(stage)));
  }
}

Checkpoint TrainRun::checkpoint_of(const Projector& projector, const TrainState& state) const {
  Checkpoint c;
  c.state = state;
  c.pair = pair_;
  c.projector_config = projector.config();
  c.projector = projector.state();
  c.rng = RngState::capture();
  c.recipe_yaml = recipe_.to_yaml();
  c.made_by = provenance(state.stage, "").to_json();  // ridge and its control: from pairs alone
  return c;
}

TrainResult TrainRun::execute() {
  TrainResult result;
  const TrainPlan plan = make_train_plan(recipe_, info_.source.shape, info_.target.shape,
                                         train_rows_, stages(), context_.device);
  result.plan =
      plan.text(recipe_, info_.source.shape, info_.target.shape, train_rows_, context_.device);
  if (context_.dry_run) {
    result.dry_run = true;
    result.stages = plan.to_json();
    return result;
  }
  peers_ = Peers(context_);
  // Looked at before anything is removed or written.
  refuse_other_stages();
  if (peers_.main()) {
    folder_.open(context_.stage.empty() ? std::vector<std::string>{} : stages());
    folder_.begin();
  }
  peers_.wait();
  folder_.remark(result.plan);

  for (const std::string& stage : stages()) {
    const std::string where = folder_.find(stage, peers_);
    std::optional<Checkpoint> mine;
    if (!where.empty()) mine = read_checkpoint(where);
    if (mine && mine->state.stage_finished) {
      folder_.adopt(*mine, where);
      continue;
    }
    TrainState state;
    if (mine) {
      folder_.resume(*mine, where);
      state = mine->state;
    }
    state.stage = stage;
    meter_.emplace(device_);
    if (stage == "ridge") {
      ridge(std::move(state));
    } else {
      gradient(std::move(state), mine, where);
    }
    // The next stage reads what this one has written.
    folder_.wait();
    peers_.wait();
    folder_.measured(meter_->to_json());
  }
  result.stages = folder_.results();
  return result;
}

OrderedJson TrainResult::to_json() const { return {{"stages", stages}}; }

std::string TrainResult::summary() const {
  std::string text;
  const auto number = [](const OrderedJson& j, const char* name) {
    char out[32] = "-";
    if (j.contains(name) && j[name].is_number())
      std::snprintf(out, sizeof out, "%.3f", j[name].get<double>());
    return std::string(out);
  };
  for (const OrderedJson& s : stages) {
    const OrderedJson& v = s.at("validation");
    std::string attention = number(v, "attention_output_cosine");
    if (attention == "-") attention = "not measured (data.queries: false)";
    text += cat(s.at("stage").get<std::string>(), ": ", s.at("steps").get<int64_t>(), " steps in ",
                duration_text(s.at("seconds").get<double>()),
                v.contains("cross_entropy")
                    ? cat(", cross-entropy ", number(v, "cross_entropy"))
                    : cat(", R2 K ", number(v, "key_r2"), " V ", number(v, "value_r2"),
                          ", attention cosine ", attention),
                ", ", s.at("checkpoint").get<std::string>(), "\n");
  }
  return text;
}

namespace {

// Pairs are trained on as they are; that they were made otherwise than the recipe says is said.
void warn_of_other_pairs(const Recipe& recipe, const RunContext& context) {
  const auto pairs = load_pair_manifest(context.paths.dataset);
  const auto difference = pairs ? data_difference(pairs->info.recipe_yaml, recipe) : std::nullopt;
  if (!difference) return;
  log_warning(cat(context.paths.dataset.string(), " was made with ", difference->field, " ",
                  difference->made_with, ", the recipe says ", difference->asked,
                  ": training takes the pairs as they are; generate --restart makes them anew"));
}

}  // namespace

TrainResult train(const Recipe& recipe, const RunContext& context) {
  const std::vector<std::string> stages =
      context.stage.empty() ? recipe.train.stages : std::vector{context.stage};
  if (std::find(stages.begin(), stages.end(), "c2c") != stages.end()) {
    if (stages.size() == 1) return train_c2c(recipe, context);
    throw Error({.code = ExitCode::kUsage,
                 .where = "train.stages",
                 .what = "c2c learns from conversations, the other stages from pairs",
                 .got = cat(stages.size(), " stages"),
                 .expected = "c2c alone"});
  }
  warn_of_other_pairs(recipe, context);
  return TrainRun(recipe, context).execute();
}

}  // namespace kvlingua
