#include "recipe_rules.h"

#include <algorithm>

#include "kvlingua/config/device_name.h"

namespace kvlingua::config_detail {
namespace {

bool holds(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void check_device(OptionVisitor& v, const std::string& device) {
  try {
    parse_device(device);
  } catch (const Error& error) {
    v.require(false, "pair.device",
              cat("is ", printable(device, 40), ", no device; auto, cpu, cuda or cuda:N"));
  }
}

// Stages that the projector's kind, the other stages or the corpus rule out.
void check_stages(OptionVisitor& v, const Recipe& r) {
  const auto& stages = r.train.stages;
  const bool c2c = holds(stages, kC2cStage);
  const bool fuses = r.projector.kind == "c2c" && r.projector.c2c.mode == "fuse";
  v.require(!c2c || stages.size() == 1, "train.stages",
            "holds c2c, which learns from conversations, beside stages that learn from pairs; "
            "c2c alone");
  v.require(!c2c || fuses, "train.stages",
            cat("holds c2c, which trains projector.kind c2c in projector.c2c.mode fuse, not ",
                r.projector.kind, "; for others ", kDistillationStage));
  v.require(!c2c || (r.data.kind != "plain" && r.data.kind != "jsonl"), "data.kind",
            "holds no conversations, which stage c2c needs; chat, sharegpt or synthetic");
  v.require(c2c || !fuses || !holds(stages, kDistillationStage), "train.stages",
            "holds distillation, whose target never reads the context, of a projector that fuses; "
            "projector.c2c.mode translate, or stage c2c");
  const bool fixed = r.projector.kind == "identity" || r.projector.kind == "noise";
  v.require(!fixed || (!holds(stages, kRegressionStage) && !holds(stages, kDistillationStage)),
            "projector.kind",
            cat("is ", r.projector.kind, ", which has nothing to train; ridge or mlp"));
}

void check_regression(OptionVisitor& v, const Recipe& r) {
  if (!holds(r.train.stages, kRegressionStage)) return;
  v.require(r.train.regression.attention_weight == 0 || r.data.queries,
            "train.regression.attention_weight",
            "needs the target's queries, which data.queries false leaves out; set that to true, "
            "or this to 0");
  v.require(r.train.regression.patience == 0 || r.data.validation > 0, "train.regression.patience",
            "waits for a gain on held-out samples, and data.validation is 0; set that above 0, or "
            "this to 0");
}

}  // namespace

void RecipeRules::visit(OptionVisitor& v) const {
  const Recipe& r = recipe;
  check_device(v, r.pair.device);
  check_stages(v, r);
  check_regression(v, r);
  const RidgeOptions& ridge = r.projector.ridge;
  v.require(ridge.candidate_layers == 0 || ridge.source_layers <= ridge.candidate_layers,
            "projector.ridge.source_layers",
            cat("is above candidate_layers; at most ", ridge.candidate_layers));
  v.require(ridge.previous_tokens == 0 || r.data.tokens_per_sample == 0,
            "projector.ridge.previous_tokens",
            "reads tokens that data.tokens_per_sample leaves out; set that to 0, or this");
}

}  // namespace kvlingua::config_detail
