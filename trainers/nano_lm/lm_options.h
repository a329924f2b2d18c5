// The recipe of a small language model trained from scratch on the built-in corpus (kvlingua
// nano-lm RECIPE).
//
// Defaults are what trained the nano pair; recipe/nano_lm/*.yaml say what differs between its two
// models.
#pragma once

#include <cstdint>
#include <string>

#include "kvlingua/config/options.h"
#include "kvlingua/config/train_options.h"
#include "kvlingua/model/model_config.h"

namespace kvlingua {

struct LmModelOptions {
  std::string architecture = "qwen2";
  int64_t hidden_size = 128;
  int64_t intermediate_size = 352;
  int64_t layers = 4;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t head_dim = 32;
  int64_t max_positions = 1024;
  double rope_theta = 10000;

  template <class V>
  void visit(V& v) {
    v.field("architecture", architecture,
            {.help = "family of the decoder", .choices = {"qwen2", "qwen3"}});
    v.field("hidden_size", hidden_size, {.help = "width", .min = 2, .max = 8192});
    v.field("intermediate_size", intermediate_size, {.help = "MLP width", .min = 1, .max = 65536});
    v.field("layers", layers, {.help = "depth", .min = 1, .max = 256});
    v.field("heads", heads, {.help = "query heads", .min = 1, .max = 256});
    v.field("kv_heads", kv_heads, {.help = "key and value heads", .min = 1, .max = 256});
    v.field("head_dim", head_dim, {.help = "channels of a head, even", .min = 2, .max = 512});
    v.field("max_positions", max_positions, {.help = "longest sequence", .min = 8, .max = 1 << 20});
    v.field("rope_theta", rope_theta, {.help = "base of the rotary frequencies", .above = 1});
    v.require(heads % kv_heads == 0, "kv_heads", "must divide heads");
    v.require(head_dim % 2 == 0, "head_dim", "must be even");
  }
};

struct LmTokenizerOptions {
  int64_t vocab_size = 800;
  int64_t documents = 20000;
  int64_t seed = 1;
  int64_t syllable_count = 40000;

  template <class V>
  void visit(V& v) {
    v.field("vocab_size", vocab_size,
            {.help = "with the added tokens", .min = 270, .max = 1 << 16});
    v.field("documents", documents, {.help = "dialogues it is made from", .min = 1, .max = 1e7});
    v.field("seed", seed, {.help = "of these dialogues", .min = 0});
    v.field("syllable_count", syllable_count,
            {.help = "how often each syllable is counted besides: words are then cut at syllables",
             .min = 0,
             .max = 1e7});
  }
};

struct LmTrainOptions {
  int64_t seed = 1;
  int64_t steps = 3000;
  int64_t batch = 24;
  int64_t micro_batch = 8;
  double muon_lr = .01;
  double muon_momentum = .95;
  double adam_lr = 3e-3;
  double beta1 = .9;
  double beta2 = .98;
  double weight_decay = 0;
  int64_t warmup_steps = 100;
  double flat = .6;
  double final_lr_ratio = .02;
  double init_gain = .7;
  double embedding_std = .05;
  int64_t log_every = 20;
  int64_t checkpoint_every = 200;
  int64_t validate_every = 400;
  int64_t validate_items = 64;

  template <class V>
  void visit(V& v) {
    v.field("seed", seed, {.help = "initialisation and corpus", .min = 0});
    v.field("steps", steps, {.help = "optimizer steps", .min = 1, .max = 1e8});
    v.field("batch", batch, {.help = "dialogues per step", .min = 1, .max = 1 << 16});
    v.field("micro_batch", micro_batch,
            {.help = "dialogues of similar length computed together; does not change the result",
             .min = 1,
             .max = 1 << 16});
    v.field("muon_lr", muon_lr, {.help = "hidden matrices: peak rate of Muon", .above = 0});
    v.field("muon_momentum", muon_momentum, {.help = "of Muon, Nesterov", .min = 0, .max = .9999});
    v.field("adam_lr", adam_lr,
            {.help = "embeddings, norms, biases: peak rate of AdamW", .above = 0});
    visit_moments(v, beta1, beta2);
    v.field("weight_decay", weight_decay, {.help = "decoupled, hidden matrices", .min = 0});
    v.field("warmup_steps", warmup_steps, {.help = "linear, from 0", .min = 0});
    v.field("flat", flat,
            {.help = "share of the steps at the peak rate; then linear", .min = 0, .max = 1});
    visit_final_lr_ratio(v, final_lr_ratio);
    v.field("init_gain", init_gain,
            {.help = "hidden matrices start at gain / sqrt(inputs)", .above = 0});
    v.field("embedding_std", embedding_std,
            {.help = "embeddings start at this deviation", .above = 0});
    v.field("log_every", log_every, {.help = "steps between lines", .min = 1});
    v.field("checkpoint_every", checkpoint_every,
            {.help = "steps between saves; 0 = only at the end", .min = 0});
    v.field("validate_every", validate_every,
            {.help = "steps between quick validations; 0 = never", .min = 0});
    v.field("validate_items", validate_items,
            {.help = "items of each kind in a quick validation", .min = 1});
  }
};

struct LmOptions {
  std::string out;
  std::string dtype = "bfloat16";
  LmModelOptions model;
  LmTokenizerOptions tokenizer;
  LmTrainOptions train;

  template <class V>
  void visit(V& v) {
    v.field("out", out, {.help = "directory of the finished model", .required = true});
    v.field("dtype", dtype,
            {.help = "type of the saved weights", .choices = {"bfloat16", "float16", "float32"}});
    v.section("model", model, "shape of the decoder");
    v.section("tokenizer", tokenizer, "byte-level BPE made from the corpus");
    v.section("train", train, "Muon and AdamW");
  }

  // Throws Error (kUsage) with file:line:column.
  static LmOptions from_yaml(std::string_view text, const std::string& file,
                             const std::vector<std::string>& overrides = {});
};

}  // namespace kvlingua
