// The stages of `kvlingua train`, in order, and how each optimises.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/config/options.h"
#include "kvlingua/config/stages.h"

namespace kvlingua {

// Fields that the optimizers of projectors and of language models (trainers/nano_lm/lm_options.h)
// have in common.
template <class V>
void visit_moments(V& v, double& beta1, double& beta2) {
  v.field("beta1", beta1, {.help = "decay of AdamW's first moment", .min = 0, .max = 0.999999});
  v.field("beta2", beta2, {.help = "decay of AdamW's second moment", .min = 0, .max = 0.999999});
}
template <class V>
void visit_final_lr_ratio(V& v, double& final_lr_ratio) {
  v.field("final_lr_ratio", final_lr_ratio,
          {.help = "learning rate at the end, relative to its peak", .min = 0, .max = 1});
}

// AdamW moves a weight by about the rate: above this nothing is left of it after a step.
inline constexpr double kLargestRate = 1e3;

struct OptimizerOptions {
  double lr = 1e-3;
  double weight_decay = 0.01;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double clip = 1.0;
  std::string schedule = "cosine";
  int64_t warmup_steps = 0;
  double warmup_ratio = 0.05;
  double final_lr_ratio = 0.0;
  double ema = 0.0;

  template <class V>
  void visit(V& v) {
    v.field("lr", lr, {.help = "peak learning rate (AdamW)", .max = kLargestRate, .above = 0});
    v.field("weight_decay", weight_decay, {.help = "decoupled", .min = 0, .max = 1e3});
    visit_moments(v, beta1, beta2);
    v.field("eps", eps, {.help = "added to the root of the second moment", .max = 1, .above = 0});
    v.field("clip", clip, {.help = "global gradient norm; 0 = off", .min = 0});
    v.field("schedule", schedule,
            {.help = "after warm-up", .choices = {"constant", "linear", "cosine"}});
    v.field("warmup_steps", warmup_steps,
            {.help = "wins over warmup_ratio when above 0", .min = 0});
    v.field("warmup_ratio", warmup_ratio, {.help = "share of all steps", .min = 0, .max = 1});
    visit_final_lr_ratio(v, final_lr_ratio);
    v.field("ema", ema, {.help = "decay of averaged weights; 0 = off", .min = 0, .max = 0.999999});
    v.require(lr * weight_decay < 1, "weight_decay",
              cat("times lr takes more than the whole weight in a step; below ", 1 / lr));
  }
};

struct BatchOptions {
  int64_t size = 16;
  int64_t accumulation = 1;
  int64_t steps = 0;
  double epochs = 1;

  template <class V>
  void visit(V& v) {
    v.field("size", size,
            {.help = "items in a micro-batch: token rows in regression, contexts in distillation",
             .min = 1,
             .max = 1 << 24});
    v.field("accumulation", accumulation,
            {.help = "micro-batches per optimizer step", .min = 1, .max = 1 << 16});
    v.field("steps", steps, {.help = "optimizer steps; 0 = as epochs says", .min = 0, .max = 1e12});
    v.field("epochs", epochs, {.help = "passes over the data", .max = 1e6, .above = 0});
  }
};

// What a stage's optimizer, its batches and its validations ask of each other.
template <class V>
void require_schedule(V& v, const OptimizerOptions& optimizer, const BatchOptions& batch) {
  v.require(batch.steps == 0 || optimizer.warmup_steps < batch.steps, "optimizer.warmup_steps",
            cat("is not below batch.steps, so that the rate never gets to its peak; at most ",
                batch.steps - 1));
}
template <class V>
void require_patience(V& v, int64_t patience, int64_t validate_every) {
  v.require(patience == 0 || validate_every > 0, "patience",
            "counts validations, and validate_every is 0; set that, or patience to 0");
}

// Variance-normalised error on un-rotated K and V, plus an optional attention-output term.
struct RegressionOptions {
  OptimizerOptions optimizer;
  BatchOptions batch{.size = 1024};
  double key_weight = 1.0;
  double value_weight = 1.0;
  double attention_weight = 0.0;
  std::vector<double> layer_weights, head_weights;
  bool train_base = false;
  int64_t validate_every = 100;
  int64_t patience = 0;

  template <class V>
  void visit(V& v) {
    v.section("optimizer", optimizer);
    v.section("batch", batch);
    v.field("key_weight", key_weight, {.help = "of the error on keys", .min = 0});
    v.field("value_weight", value_weight, {.help = "of the error on values", .min = 0});
    v.field("attention_weight", attention_weight,
            {.help = "of the attention-output error; needs data.queries", .min = 0});
    v.field("layer_weights", layer_weights,
            {.help = "of the errors by target layer, relative to each other; empty = all alike",
             .min = 0});
    v.field("head_weights", head_weights,
            {.help = "of the errors by key-value head of the target; empty = all alike", .min = 0});
    v.field("train_base", train_base, {.help = "mlp: train the linear map under it too"});
    v.field("validate_every", validate_every,
            {.help = "steps between validations; 0 = only at the end", .min = 0});
    v.field("patience", patience,
            {.help = "validations without gain before stopping; 0 = never", .min = 0});
    v.require(key_weight + value_weight > 0, "key_weight",
              "key_weight and value_weight must not both be 0");
    const auto weighs = [](const std::vector<double>& weights) {
      double sum = 0;
      for (const double weight : weights) sum += weight;
      return weights.empty() || sum > 0;
    };
    v.require(weighs(layer_weights), "layer_weights", "must not all be 0");
    v.require(weighs(head_weights), "head_weights", "must not all be 0");
    require_schedule(v, optimizer, batch);
    require_patience(v, patience, validate_every);
  }
};

// KL to the full-text target through the frozen target with the translated cache injected.
struct DistillationOptions {
  OptimizerOptions optimizer{.lr = 1e-4};
  BatchOptions batch{.size = 8, .steps = 200};
  double kl_weight = 1.0;
  double ce_weight = 0.0;
  double temperature = 1.0;
  double anchor = 0.0;
  int64_t max_answer = 64;
  std::vector<std::string> families = {"identity", "counterfact"};
  int64_t items = 600;
  bool fresh = true;  // without continuations: endless()
  int64_t continuations = 0;
  double continuation_share = 0;
  int64_t held_out = 96;
  std::string checkpoint_activations = "auto";
  bool range_test = false;
  bool train_base = false;
  int64_t validate_every = 50;
  int64_t patience = 0;
  bool keep_best = true;
  double divergence_kl = 1.25;
  double divergence_r2 = 1.0;

  // Once a stage has chosen (trainers/engine/training_cost.h).
  bool recomputes() const { return checkpoint_activations == "true"; }
  bool endless() const { return fresh && continuations == 0; }

  template <class V>
  void visit(V& v) {
    v.section("optimizer", optimizer);
    v.section("batch", batch);
    v.field("kl_weight", kl_weight,
            {.help = "of the divergence from the full-text target: the honest measure of transfer",
             .min = 0});
    v.field(
        "ce_weight", ce_weight,
        {.help = "of the cross-entropy on the gold answer: teaches beyond the target", .min = 0});
    v.field("temperature", temperature,
            {.help = "of both distributions", .min = 0.01, .max = 1000});
    v.field("anchor", anchor, {.help = "of the regression error, keeps K and V close", .min = 0});
    v.field("max_answer", max_answer,
            {.help = "answer tokens that are scored", .min = 1, .max = 1 << 16});
    v.field(
        "families", families,
        {.help = "what is asked about the contexts, one named twice twice as often; values never "
                 "seen in evaluation. open: an open vocabulary in many phrasings",
         .choices = {"identity", "counterfact", "needle", "open"},
         .required = true});
    v.field("items", items,
            {.help = "contexts with a question, both forms together; fresh: not read", .min = 10});
    v.field(
        "fresh", fresh,
        {.help = "draw every item anew, without end, instead of a list that is learnt by heart"});
    v.field("continuations", continuations,
            {.help = "a list of items (not fresh) with so many documents of the corpus, which the "
                     "target must continue",
             .min = 0,
             .max = 1e9});
    v.field("continuation_share", continuation_share,
            {.help = "fresh: share of items that are documents of the corpus to be continued",
             .min = 0,
             .max = 0.9});
    v.field("held_out", held_out,
            {.help = "items that choose the best state: names and values that are never trained on",
             .min = 8,
             .max = 1 << 16});
    v.field("checkpoint_activations", checkpoint_activations,
            {.help = "recompute layers in backward to save memory; auto: when the device has too "
                     "little of it otherwise",
             .choices = {"auto", "true", "false"}});
    v.field(
        "range_test", range_test,
        {.help = "choose the rate by thirty steps of rising rates, up to optimizer.lr, of which "
                 "nothing else is kept"});
    v.field("train_base", train_base,
            {.help = "train the linear map itself too, not only what stands over it "
                     "(projector.ridge.change_rank, mlp)"});
    v.field(
        "validate_every", validate_every,
        {.help = "steps between validations; 0 = only before the first and at the end", .min = 0});
    v.field("patience", patience,
            {.help = "validations without gain before stopping; 0 = never", .min = 0});
    v.field("keep_best", keep_best,
            {.help = "the result is the best validated state, the one before the first step "
                     "included"});
    v.field("divergence_kl", divergence_kl,
            {.help = "keep_best: stop when the held-out KL is this many times what it was before "
                     "the first step; 0 = never",
             .min = 0});
    v.field("divergence_r2", divergence_r2,
            {.help = "keep_best: stop when the held-out R2 is this far below what it was before "
                     "the first step; 0 = never",
             .min = 0});
    v.require((fresh && continuations == 0) || continuation_share == 0, "continuation_share",
              "is of fresh items; a list has continuations");
    v.require(!fresh || continuations > 0 || batch.steps > 0, "fresh",
              "has no epochs: set batch.steps");
    v.require(kl_weight + ce_weight > 0, "kl_weight", "kl_weight and ce_weight must not both be 0");
    v.require(divergence_kl == 0 || divergence_kl >= 1, "divergence_kl",
              "below 1 stops a stage that does not change; 0 for never, or 1 at least");
    require_schedule(v, optimizer, batch);
    require_patience(v, patience, validate_every);
  }
};

// Cache-to-Cache's own training: cross-entropy on the response through the frozen, fused target.
struct C2cTrainOptions {
  OptimizerOptions optimizer{.lr = 1e-4, .schedule = "linear", .warmup_ratio = 0.1};
  BatchOptions batch{.size = 4, .accumulation = 8};
  int64_t max_length = 2048;
  double train_ratio = 0.99;
  int64_t validate_every = 100;
  bool low_precision_weights = false;
  bool unweighted_micro_batches = false;
  std::string checkpoint_activations = "auto";
  bool include_response = false;
  std::string source_cache = "auto";

  bool recomputes() const { return checkpoint_activations == "true"; }

  template <class V>
  void visit(V& v) {
    v.section("optimizer", optimizer);
    v.section("batch", batch);
    v.field("max_length", max_length, {.help = "longer samples are cut", .min = 2, .max = 1 << 20});
    v.field("train_ratio", train_ratio, {.help = "the rest validates", .max = 1, .above = 0});
    v.field("validate_every", validate_every,
            {.help = "steps between validations; 0 = only at the end", .min = 0});
    v.field("low_precision_weights", low_precision_weights,
            {.help = "C2C's habit: bfloat16 weights without a float32 master copy"});
    v.field("unweighted_micro_batches", unweighted_micro_batches,
            {.help = "C2C's habit: mean of micro-batch means"});
    v.field("checkpoint_activations", checkpoint_activations,
            {.help = "recompute layers in backward to save memory; auto: when the device has too "
                     "little of it otherwise",
             .choices = {"auto", "true", "false"}});
    v.field("include_response", include_response,
            {.help = "the source reads the answer too, and its keys and values are fused as well"});
    v.field("source_cache", source_cache,
            {.help = "where source caches wait between epochs",
             .choices = {"auto", "none", "memory", "disk"}});
    require_schedule(v, optimizer, batch);
  }
};

struct TrainOptions {
  std::vector<std::string> stages = {kRidgeStage, kRegressionStage, kDistillationStage};
  int64_t seed = 1;
  int64_t log_every = 10;
  bool tensorboard = true;
  std::string start_from;
  bool shuffle_pairs = false;
  RegressionOptions regression;
  DistillationOptions distillation;
  C2cTrainOptions c2c;

  template <class V>
  void visit(V& v) {
    v.field("stages", stages,
            {.help = "in this order; what is done is skipped",
             .choices = stage_names(),
             .required = true});
    v.field("seed", seed,
            {.help = "initialisation, dropout and data order; --seed wins", .min = 0});
    v.field("log_every", log_every, {.help = "steps between lines", .min = 1});
    v.field("tensorboard", tensorboard, {.help = "write TensorBoard events beside the JSON lines"});
    v.field("start_from", start_from, {.help = "checkpoint of another run to start from"});
    v.field("shuffle_pairs", shuffle_pairs,
            {.help = "a control: every target gets the source of another text, so nothing can be "
                     "learnt and the gate must fail"});
    v.section(kRegressionStage, regression, "error on paired caches");
    v.section(kDistillationStage, distillation, "through the frozen target");
    v.section(kC2cStage, c2c, "Cache-to-Cache's training");
    require_once(v, "stages", stages);
  }
};

}  // namespace kvlingua
