// What text goes in, and how its paired caches are stored (kvlingua generate).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/config/options.h"

namespace kvlingua {

struct SyntheticOptions {
  std::string style = "nano";
  int64_t documents = 600;
  int64_t seed = 1;
  double identity = 0.5;
  double counterfactual = 0.4;
  double distractors = 0.4;

  template <class V>
  void visit(V& v) {
    v.field("style", style,
            {.help = "the nano pair's language, natural English in the evaluation's layouts, or an "
                     "open vocabulary in many layouts",
             .choices = {"nano", "english", "open"}});
    v.field("documents", documents, {.help = "contexts to make", .min = 1, .max = 1e9});
    v.field("seed", seed, {.help = "seed of the generator", .min = 0});
    v.field("identity", identity,
            {.help = "share of documents that introduce somebody", .min = 0, .max = 1});
    v.field("counterfactual", counterfactual,
            {.help = "share that contradict a known fact", .min = 0, .max = 1});
    v.field("distractors", distractors,
            {.help = "share with filler or distracting sentences", .min = 0, .max = 1});
  }
};

// One corpus of several (data.mix).
struct MixedCorpusOptions {
  std::string kind = "synthetic";
  double weight = 1;
  std::vector<std::string> files;
  std::string text_field = "text";
  SyntheticOptions synthetic;

  template <class V>
  void visit(V& v) {
    v.field("kind", kind,
            {.help = "as data.kind",
             .choices = {"plain", "text", "jsonl", "chat", "sharegpt", "synthetic"}});
    v.field("weight", weight, {.help = "share of documents, relative to the others", .above = 0});
    v.field("files", files, {.help = "as data.files"});
    v.field("text_field", text_field, {.help = "as data.text_field"});
    v.section("synthetic", synthetic, "as data.synthetic");
    v.require(kind == "synthetic" || !files.empty(), "files",
              "must name at least one file unless kind is synthetic");
    v.require(kind != "jsonl" || !text_field.empty(), "text_field", "must name a field");
    require_once(v, "files", files);
  }
};

struct DataOptions {
  std::string name;
  std::string kind = "synthetic";
  std::vector<std::string> files;
  std::string text_field = "text";
  SyntheticOptions synthetic;
  std::vector<MixedCorpusOptions> mix;
  int64_t passage = 600;
  std::string split = "train";
  double validation = 0.05;
  int64_t seed = 1;
  bool shuffle = true;
  bool chat = true;
  int64_t min_length = 1;
  int64_t max_length = 1024;
  int64_t max_samples = 0;
  int64_t max_tokens = 0;
  int64_t tokens_per_sample = 0;
  std::string storage_dtype = "float32";
  int64_t shard_bytes = int64_t{1} << 30;
  bool sequential = false;
  bool online = false;
  bool queries = false;
  bool attention_outputs = false;
  int64_t batch_tokens = 4096;
  int64_t workers = 1;
  bool skip_bad = false;
  bool split_control_tokens = false;

  template <class V>
  void visit(V& v) {
    v.field("name", name, {.help = "folder under datasets/; empty: the recipe's name"});
    v.field("kind", kind,
            {.help = "what the corpus is: lines of text, whole texts cut into passages (books, "
                     "manuals; .gz too), JSONL with a text field, chat messages, ShareGPT "
                     "conversations, built in, or several of these (data.mix)",
             .choices = {"plain", "text", "jsonl", "chat", "sharegpt", "synthetic", "mix"}});
    v.field("files", files, {.help = "corpus files, read in this order"});
    v.field("text_field", text_field, {.help = "jsonl: the field that holds the text"});
    v.section("synthetic", synthetic, "the built-in corpus");
    v.list("mix", mix, "kind mix: several corpora, by weight");
    v.field("passage", passage,
            {.help = "kind text: bytes a passage has at most, cut where a paragraph, sentence or "
                     "word ends",
             .min = 32,
             .max = 1 << 20});
    v.field("split", split,
            {.help = "part of the corpus to take", .choices = {"train", "heldout", "all"}});
    v.field("validation", validation,
            {.help = "share of samples kept for validation", .min = 0, .max = 0.5});
    v.field("seed", seed, {.help = "shuffling and subsampling", .min = 0});
    v.field("shuffle", shuffle, {.help = "shuffle the corpus by seed"});
    v.field("chat", chat, {.help = "render each sample by each model's chat template"});
    v.field("min_length", min_length,
            {.help = "shorter samples are left out (target tokens)", .min = 1, .max = 1 << 20});
    v.field("max_length", max_length,
            {.help = "longer samples are cut (target tokens)", .min = 1, .max = 1 << 20});
    v.field("max_samples", max_samples, {.help = "sample budget; 0 = no limit", .min = 0});
    v.field("max_tokens", max_tokens, {.help = "token budget; 0 = no limit", .min = 0});
    v.field("tokens_per_sample", tokens_per_sample,
            {.help = "tokens kept of each sample; 0 = all (whole sequences)", .min = 0});
    v.field("storage_dtype", storage_dtype,
            {.help = "type of the stored caches; int8 has scales per head",
             .choices = {"float32", "bfloat16", "float16", "int8"}});
    v.field("shard_bytes", shard_bytes,
            {.help = "size of one HDF5 file", .min = 1 << 16, .max = 1e13, .bytes = true});
    v.field("sequential", sequential, {.help = "one model after the other, for small cards"});
    v.field("online", online, {.help = "must be false: nothing trains without stored pairs"});
    v.field("queries", queries, {.help = "also store the target's queries"});
    v.field("attention_outputs", attention_outputs,
            {.help = "also store the target's attention outputs"});
    v.field("batch_tokens", batch_tokens,
            {.help = "padded tokens in one prefill batch", .min = 1, .max = 1 << 24});
    v.field("workers", workers,
            {.help = "threads that make training batches ahead; 0 = the training thread itself",
             .min = 0,
             .max = 64});
    v.field("skip_bad", skip_bad,
            {.help = "skip and count samples that are malformed, or that a chat template alters, "
                     "instead of stopping"});
    v.field("split_control_tokens", split_control_tokens,
            {.help = "control tokens written in a document (<|im_end|>) are text, not control"});
    v.require(kind == "synthetic" || kind == "mix" || !files.empty(), "files",
              "must name at least one file unless kind is synthetic or mix");
    v.require(kind != "jsonl" || !text_field.empty(), "text_field", "must name a field");
    require_once(v, "files", files);
    v.require((kind == "mix") == !mix.empty(), "mix", "belongs to kind mix, which needs it");
    v.require(
        !online, "online",
        "must be false: training reads stored pairs. Where all of them do not fit a disk, "
        "generate and train in parts (projector.ridge.add_sums), or store less of each sample "
        "(data.tokens_per_sample, data.storage_dtype)");
    v.require(min_length <= max_length, "min_length", "must not be above max_length");
  }
};

}  // namespace kvlingua
