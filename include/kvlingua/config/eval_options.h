// What is asked of a translated cache, and what counts as passing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "kvlingua/config/options.h"
#include "kvlingua/config/stages.h"

namespace kvlingua {

// The default gate: of the gap between baseline and full_text 90 % recovered on identities, on
// counterfacts and on needles, stalling at most 5 points above full_text. A fuser, whose target
// reads the text too, must gain over it.
struct CriteriaOptions {
  double identity = 0.90;
  double stalling = 0.05;
  double parametric_knowledge = 0.90;
  double needle = 0.90;
  double fused_gain = 0;
  double confidence = 0.95;

  template <class V>
  void visit(V& v) {
    v.field(
        "identity", identity,
        {.help = "identities: share of the gap from baseline to full_text", .min = 0, .max = 1});
    v.field("stalling", stalling,
            {.help = "points of stalling allowed above full_text", .min = 0, .max = 1});
    v.field("parametric_knowledge", parametric_knowledge,
            {.help = "injected share, relative to full_text's", .min = 0, .max = 1});
    v.field("needle", needle,
            {.help = "needles: share of the gap from baseline to full_text", .min = 0, .max = 1});
    v.field("fused_gain", fused_gain,
            {.help = "projectors that fuse: gain over full_text, points of exact answers",
             .min = 0,
             .max = 1});
    v.field("confidence", confidence, {.help = "of every interval", .min = 0.5, .max = 0.9999});
  }
};

// What `evaluate --confirm` asks before it looks.
struct ConfirmOptions {
  int64_t training_seeds = 3;
  double margin = 0.02;
  double power = 0.8;
  int64_t most_items = 1600;
  int64_t looks = 1;

  template <class V>
  void visit(V& v) {
    v.field("training_seeds", training_seeds,
            {.help = "trained projectors it needs at least (train --seeds)", .min = 1, .max = 100});
    v.field("margin", margin,
            {.help = "how far above its gate the truth is thought to lie, for the number of items",
             .max = 1,
             .above = 0});
    v.field("power", power,
            {.help = "chance to confirm such a truth that the number of items must give",
             .max = 0.999,
             .above = 0});
    v.field("most_items", most_items,
            {.help = "items of each family and form at most", .min = 1, .max = 1e6});
    v.field("looks", looks,
            {.help = "confirmations planned for these checkpoints; they share the error",
             .min = 1,
             .max = 100});
  }
};

struct BenchmarkOptions {
  std::string kind = "mmlu_redux";
  std::string file;
  std::string gold = "correct";
  std::string method = "likelihood";
  int64_t limit = 0;

  template <class V>
  void visit(V& v) {
    v.field("kind", kind,
            {.help = "published fields of the file",
             .choices = {"mmlu_redux", "openbookqa", "arc_c", "ceval", "hellaswag"}});
    v.field("file", file, {.help = "JSONL or CSV on this machine", .required = true});
    v.field("gold", gold,
            {.help = "handling of flagged items: correct, or as C2C's evaluator does",
             .choices = {"correct", "c2c"}});
    v.field(
        "method", method,
        {.help = "option log-likelihood, or generation", .choices = {"likelihood", "generate"}});
    v.field("limit", limit, {.help = "first items only; 0 = all", .min = 0});
  }
};

// One condition that hands over only a part of the judged cache; the rest is the mean over all
// items.
struct PartialOptions {
  std::string name;
  std::vector<int64_t> layers;
  std::string tokens = "all";
  bool keys = true;
  bool values = true;

  template <class V>
  void visit(V& v) {
    v.field("name", name, {.help = "of the condition, in the report", .required = true});
    v.field("layers", layers,
            {.help = "target layers handed over; empty: all", .min = 0, .max = 1023});
    v.field("tokens", tokens,
            {.help = "tokens handed over; markers: those that hold what is asked for",
             .choices = {"all", "first_half", "second_half", "markers", "others"}});
    v.field("keys", keys, {.help = "hand over keys"});
    v.field("values", values, {.help = "hand over values"});
    v.require(keys || values, "keys", "keys and values must not both be false");
    require_once(v, "layers", layers);
  }
};

// How a context may reach the target (eval/conditions/); what a stage makes is one of the ways.
inline std::vector<std::string_view> condition_names() {
  std::vector<std::string_view> names = {
      "baseline", "full_text", "same_cache", "raw",        "raw_shifted", "raw_rerotated",
      "noise",    "shuffled",  "averaged",   "wrong_text", "identity",    kRidgeControl};
  for (const std::string_view stage : stage_conditions()) names.push_back(stage);
  names.insert(names.end(), {"text_message", "wrong_source", "source_alone"});
  return names;
}

// What the criteria may judge: a projector's condition, or none.
inline std::vector<std::string_view> gate_names() {
  std::vector<std::string_view> names = {"none", "identity", kRidgeControl};
  for (const std::string_view stage : stage_conditions()) names.push_back(stage);
  return names;
}

struct EvalOptions {
  std::vector<std::string> families = {"identity", "counterfact", "needle"};
  std::vector<std::string> forms = {"question", "completion"};
  int64_t items = 200;
  std::vector<std::string> conditions = {"baseline", "full_text", "same_cache", "noise",
                                         "shuffled", "averaged",  "wrong_text", "ridge",
                                         "mlp",      "distilled"};
  std::string gated = "distilled";
  std::vector<PartialOptions> partial;
  std::string style = "auto";
  bool cases = true;
  std::vector<std::string> probe_files;
  std::vector<std::string> counterfact_files;
  std::vector<BenchmarkOptions> benchmarks;
  std::vector<int64_t> seeds = {1};
  int64_t batch_size = 32;
  int64_t max_new_tokens = 32;
  int64_t raw_tokens = 20;
  int64_t message_tokens = 64;
  int64_t bootstrap = 20000;
  std::vector<int64_t> shifts = {1, 8, 40};
  bool fidelity = true;
  bool retention = true;
  bool latency = true;
  bool dense_twin = true;
  CriteriaOptions criteria;
  ConfirmOptions confirm;

  template <class V>
  void visit(V& v) {
    v.field(
        "families", families,
        {.help = "randomised probe families", .choices = {"identity", "counterfact", "needle"}});
    v.field(
        "forms", forms,
        {.help = "question, completion", .choices = {"question", "completion"}, .required = true});
    v.field("items", items, {.help = "items of each family and form", .min = 1, .max = 1e6});
    v.field("conditions", conditions,
            {.help = "how the context reaches the target",
             .choices = condition_names(),
             .required = true});
    v.field("gated", gated,
            {.help = "the projector that the criteria judge; none: a table without a verdict",
             .choices = gate_names()});
    v.list("partial", partial, "conditions that hand over a part of the judged cache");
    v.field("style", style,
            {.help = "language of the families; auto: nano for the embedded pair, else english",
             .choices = {"auto", "nano", "english"}});
    v.field("cases", cases, {.help = "phase 2a's five cases"});
    v.field("probe_files", probe_files, {.help = "own probes (YAML)"});
    v.field("counterfact_files", counterfact_files, {.help = "CounterFact JSON files"});
    v.list("benchmarks", benchmarks, "multiple-choice benchmarks from local files");
    v.field("seeds", seeds, {.help = "of items and bootstraps", .min = 0, .required = true});
    v.field("batch_size", batch_size,
            {.help = "items generated together; never changes a score", .min = 1, .max = 1 << 16});
    v.field("max_new_tokens", max_new_tokens, {.help = "of an answer", .min = 1, .max = 1 << 16});
    v.field("raw_tokens", raw_tokens,
            {.help = "written after the source prompt in raw (phase 2a)", .min = 0, .max = 4096});
    v.field("message_tokens", message_tokens,
            {.help = "of the source's message in text_message", .min = 1, .max = 4096});
    v.field("bootstrap", bootstrap, {.help = "resamples", .min = 100, .max = 1e6});
    v.field("shifts", shifts,
            {.help = "offsets of raw_shifted and raw_rerotated", .min = 1, .max = 1 << 20});
    v.field("fidelity", fidelity, {.help = "error of K, V and attention outputs by layer"});
    v.field("retention", retention, {.help = "NLL and KL of continuations"});
    v.field("latency", latency,
            {.help = "time to first token and bytes, against reading the text"});
    v.field("dense_twin", dense_twin,
            {.help = "of a target quantised when it is loaded: full_text by its dense twin too, "
                     "where that fits, for what quantising costs"});
    v.section("criteria", criteria, "thresholds of the gate");
    v.section("confirm", confirm, "evaluate --confirm");
    require_once(v, "families", families);
    require_once(v, "forms", forms);
    require_once(v, "conditions", conditions);
    require_once(v, "probe_files", probe_files);
    require_once(v, "counterfact_files", counterfact_files);
    require_once(v, "seeds", seeds);
    require_once(v, "shifts", shifts);
    const std::vector<std::string_view> known = condition_names();
    std::vector<std::string> parts;
    for (const PartialOptions& part : partial) {
      v.require(std::find(known.begin(), known.end(), part.name) == known.end(), "partial",
                cat("names ", part.name, ", a condition of its own; give it another name"));
      parts.push_back(part.name);
    }
    require_once(v, "partial", parts);
    const bool other =
        std::find(conditions.begin(), conditions.end(), "wrong_source") != conditions.end();
    v.require(gated != "none" || (!other && partial.empty()), "gated",
              "is none, and wrong_source and partial are parts of what is judged; name a "
              "projector's condition");
  }
};

}  // namespace kvlingua
