// Which map takes a source cache to a target cache; one section per kind.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/config/options.h"

namespace kvlingua {

struct NoiseOptions {
  int64_t seed = 1;
  double scale = 1.0;

  template <class V>
  void visit(V& v) {
    v.field("seed", seed, {.help = "seed of the noise", .min = 0});
    v.field("scale", scale, {.help = "factor on the matched standard deviation", .min = 0});
  }
};

struct RidgeOptions {
  int64_t source_layers = 0;
  std::string selection = "predictive";
  std::string layout = "full";
  std::string features = "same";
  int64_t previous_tokens = 0;
  std::vector<int64_t> previous_layers = {0};
  int64_t candidate_layers = 0;
  int64_t budget = 0;
  int64_t curve = 0;
  int64_t change_rank = 0;
  std::vector<std::string> add_sums;
  std::vector<double> lambda = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1};
  double holdout = 0.1;
  std::string precision = "float64";
  double gain = 0;

  template <class V>
  void visit(V& v) {
    v.field("source_layers", source_layers,
            {.help = "source layers read per target layer; 0 = all", .min = 0, .max = 1024});
    v.field(
        "selection", selection,
        {.help = "how they are chosen: by held-out error, or the layer at the same relative depth",
         .choices = {"predictive", "aligned"}});
    v.field(
        "layout", layout,
        {.help = "all heads to all heads, or head by head", .choices = {"full", "head_matched"}});
    v.field("features", features,
            {.help = "what keys and values are predicted from: keys from keys and values from "
                     "values, or each from both",
             .choices = {"same", "both"}});
    v.field("previous_tokens", previous_tokens,
            {.help = "source tokens before the aligned one that are read too, by their keys and "
                     "values in previous_layers: two models need not keep what a token follows at "
                     "the same token",
             .min = 0,
             .max = 64});
    v.field("previous_layers", previous_layers,
            {.help = "source layers that the tokens before are read by, counted from 0",
             .min = 0,
             .max = 1023,
             .required = true});
    v.field("candidate_layers", candidate_layers,
            {.help = "source layers considered at all, evenly spaced; 0 = all. The sums' memory "
                     "grows with its square",
             .min = 0,
             .max = 1024});
    v.field(
        "budget", budget,
        {.help = "how many of these layers, aligned or of a token before, the map reads: chosen "
                 "one after another by the held-out error of all target layers; 0 = all",
         .min = 0,
         .max = 1 << 16});
    v.field("curve", curve,
            {.help = "halvings of the rows whose held-out R2 is told too, the learning curve: each "
                     "costs a solution; one process only; 0 = none",
             .min = 0,
             .max = 5});
    v.field("change_rank", change_rank,
            {.help = "rank of a change that gradient stages train over the frozen map; 0 = none",
             .min = 0,
             .max = 1 << 16});
    v.field("add_sums", add_sums,
            {.help = "folders ridge-sums of earlier runs on other data, added to this run's"});
    v.field("lambda", lambda,
            {.help = "grid, relative to the mean diagonal of the Gram matrix; several: chosen on "
                     "the held-out part",
             .above = 0,
             .required = true});
    v.field("holdout", holdout,
            {.help = "share of samples that choose lambda and layers", .min = 0, .max = 0.5});
    v.field("precision", precision,
            {.help = "type the system is solved in", .choices = {"float64", "float32"}});
    v.field(
        "gain", gain,
        {.help = "scale every predicted channel about its mean by 1 / held-out R2 to this power: "
                 "least squares predicts means, which are too short. 0: as it is; 0.5: as varied "
                 "as the target; 1: unbiased",
         .min = 0,
         .max = 4});
    v.require(previous_tokens == 0 || (source_layers == 0 && layout == "full"), "previous_tokens",
              "needs source_layers 0 and layout full");
    v.require(budget == 0 || (source_layers == 0 && layout == "full"), "budget",
              "needs source_layers 0 and layout full");
    v.require(lambda.size() <= 1 || holdout > 0, "lambda",
              "has several values and holdout 0 leaves nothing to choose by; give one, or a "
              "holdout such as 0.1");
    v.require(budget == 0 || holdout > 0, "budget",
              "is spent by the held-out error; needs holdout above 0");
    v.require(gain == 0 || holdout > 0, "gain", "is of the held-out R2; needs holdout above 0");
    v.require(curve == 0 || holdout > 0, "curve", "is of the held-out R2; needs holdout above 0");
    require_once(v, "previous_layers", previous_layers);
    require_once(v, "add_sums", add_sums);
    require_once(v, "lambda", lambda);
  }
};

struct MlpOptions {
  int64_t hidden = 512;
  int64_t depth = 1;
  int64_t rank = 0;
  double dropout = 0.0;
  int64_t seed = 1;

  template <class V>
  void visit(V& v) {
    v.field("hidden", hidden,
            {.help = "hidden width of a residual block", .min = 1, .max = 1 << 16});
    v.field("depth", depth, {.help = "residual blocks over the ridge map", .min = 1, .max = 64});
    v.field("rank", rank,
            {.help = "low-rank factorisation of each matrix; 0 = full", .min = 0, .max = 1 << 16});
    v.field("dropout", dropout, {.help = "in training", .min = 0, .max = 0.95});
    v.field("seed", seed, {.help = "of its first weights; mixed with train.seed", .min = 0});
  }
};

// Keys and values of a layer through one narrow latent (projector/lcf.h).
struct LcfOptions {
  int64_t latent = 256;
  int64_t seed = 1;

  template <class V>
  void visit(V& v) {
    v.field("latent", latent,
            {.help = "width of the latent that keys and values go through together",
             .min = 1,
             .max = 1 << 16});
    v.field("seed", seed, {.help = "of its first weights; mixed with train.seed", .min = 0});
  }
};

// A gated two-layer network for each KV head of each layer (projector/dense_latent.h).
struct DenseLatentOptions {
  int64_t expansion = 16;
  int64_t seed = 1;

  template <class V>
  void visit(V& v) {
    v.field("expansion", expansion,
            {.help = "hidden width, in head_dims of the target", .min = 1, .max = 1024});
    v.field("seed", seed, {.help = "of its first weights; mixed with train.seed", .min = 0});
  }
};

// Cache-to-Cache's projector (arXiv 2510.03215); defaults are its published recipe's.
// Of Cache-to-Cache's older class alone (projector/c2c_all_in_one.h), with that class's defaults.
struct AllInOneOptions {
  int64_t weight_hidden_dim = 1024;
  std::string activation = "gelu";
  bool layer_norm = true;
  bool residual = true;
  bool swiglu = false;
  bool concat = false;
  bool weight_depends_on_input = false;
  std::string weight_input = "target_key";
  double weight_init = 0;
  double scalar_temperature = 0.005;
  bool preserve_target_weight = true;
  bool add_self = true;
  bool gumbel = true;

  template <class V>
  void visit(V& v) {
    v.field("weight_hidden_dim", weight_hidden_dim,
            {.help = "width of the network that makes the weights", .min = 1, .max = 1 << 16});
    v.field("activation", activation,
            {.help = "between the layers", .choices = {"gelu", "relu", "silu"}});
    v.field("layer_norm", layer_norm, {.help = "behind each layer but the last"});
    v.field("residual", residual, {.help = "around the network, where its widths are equal"});
    v.field("swiglu", swiglu, {.help = "gated layers instead of activation"});
    v.field("concat", concat, {.help = "a last layer over projected and target's own"});
    v.field("weight_depends_on_input", weight_depends_on_input,
            {.help = "a weight a token and head from a network; else one parameter a layer"});
    v.field("weight_input", weight_input,
            {.help = "what that network reads",
             .choices = {"target_key", "target_value", "both", "target_projected_key",
                         "target_projected_value", "target_projected_both"}});
    v.field("weight_init", weight_init, {.help = "of the one parameter"});
    v.field("scalar_temperature", scalar_temperature,
            {.help = "weights are sigmoid(x / this)", .above = 0});
    v.field("preserve_target_weight", preserve_target_weight,
            {.help = "the target's own counts 1 - weight instead of 1"});
    v.field("add_self", add_self, {.help = "add the target's own at all"});
    v.field("gumbel", gumbel, {.help = "draw the gate in training; else as in evaluation"});
  }
};

struct C2cOptions {
  std::string type = "C2CProjector";
  int64_t hidden_dim = 1024;
  int64_t intermediate_dim = 1024;
  int64_t num_layers = 3;
  double dropout = 0.1;
  double initial_temperature = 1.0;
  double final_temperature = 0.001;
  int64_t anneal_steps = 1929;
  bool zero_init = false;
  std::string mapping = "last_aligned";
  std::vector<int64_t> source_layer;
  std::string mode = "fuse";
  std::string fusion = "sequential";
  int64_t ablation = 0;
  AllInOneOptions all_in_one;

  template <class V>
  void visit(V& v) {
    v.field("type", type,
            {.help = "its class; AllInOneProjector is the older one",
             .choices = {"C2CProjector", "AllInOneProjector"}});
    v.field("hidden_dim", hidden_dim,
            {.help = "width of the residual stream", .min = 1, .max = 1 << 16});
    v.field("intermediate_dim", intermediate_dim,
            {.help = "inner width of its blocks", .min = 1, .max = 1 << 16});
    v.field(
        "num_layers", num_layers,
        {.help = "depth; C2CProjector has 3 at least, its projection tower num_layers - 2 blocks",
         .min = 1,
         .max = 64});
    v.field("dropout", dropout, {.help = "in training", .min = 0, .max = 0.95});
    v.field("initial_temperature", initial_temperature,
            {.help = "of the Gumbel gate, at step 0", .above = 0});
    v.field("final_temperature", final_temperature,
            {.help = "of the Gumbel gate, after anneal_steps", .above = 0});
    v.field("anneal_steps", anneal_steps,
            {.help = "optimizer steps of the exponential schedule", .min = 1});
    v.field("zero_init", zero_init, {.help = "start with zero output projections"});
    v.field("mapping", mapping,
            {.help = "which source layer a target layer reads",
             .choices = {"last_aligned", "k_nearest"}});
    v.field("source_layer", source_layer,
            {.help = "the source layer of each target layer, instead of mapping; empty: by mapping",
             .min = 0,
             .max = 4096});
    v.field(
        "mode", mode,
        {.help = "fuse: the target reads the context too, as C2C does; translate: it never does",
         .choices = {"fuse", "translate"}});
    v.field("fusion", fusion,
            {.help = "several sources: one after another, or side by side",
             .choices = {"sequential", "parallel"}});
    v.field("ablation", ablation,
            {.help = "C2C's ablation level; 0 = the full projector", .min = 0, .max = 4});
    v.section("all_in_one", all_in_one, "what AllInOneProjector alone has");
    v.require(type != "C2CProjector" || num_layers >= 3, "num_layers",
              "C2CProjector has at least 3");
    v.require(type != "AllInOneProjector" || ablation == 0, "ablation",
              "levels are C2CProjector's alone");
  }
};

struct ProjectorOptions {
  std::string kind = "mlp";
  std::string dtype = "float32";
  NoiseOptions noise;
  RidgeOptions ridge;
  MlpOptions mlp;
  LcfOptions lcf;
  DenseLatentOptions dense_latent;
  C2cOptions c2c;

  template <class V>
  void visit(V& v) {
    v.field("kind", kind,
            {.help = "the map that is trained",
             .choices = {"identity", "noise", "ridge", "mlp", "lcf", "dense_latent", "c2c"}});
    v.field("dtype", dtype,
            {.help = "type of its weights", .choices = {"float32", "bfloat16", "float16"}});
    v.section("noise", noise, "a control: noise with the target's per-layer statistics");
    v.section("ridge", ridge, "closed-form linear map; also what mlp starts from");
    v.section("mlp", mlp, "residual network over the ridge map");
    v.section("lcf", lcf, "keys and values together through a narrow latent, layer by layer");
    v.section("dense_latent", dense_latent, "a gated two-layer network for each KV head");
    v.section("c2c", c2c, "Cache-to-Cache's gated projector");
  }
};

}  // namespace kvlingua
