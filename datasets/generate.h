// Stage 1: text -> paired caches. One function, from a recipe to a pair set on disk.
//
// Both models read every sample's span after their own chat prefix; the span's cache entries, keys
// un-rotated, go into shards (pair_schema.h). Prefill, copying and writing overlap. Everything is
// planned from the corpus alone, so a run that was killed goes on where it stopped and ends with
// the same pair set; several ranks share the shards of one plan.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"

namespace kvlingua {

struct GenerateResult {
  std::filesystem::path directory;
  bool complete = false;  // all shards of all ranks are published
  int64_t samples = 0;    // published in the folder, by this run and before
  int64_t tokens = 0;     // target tokens of those samples
  int64_t shards = 0;
  int64_t bytes = 0;     // of the shards
  double seconds = 0.0;  // of this run, models loaded
  double tokens_per_second =
      0.0;                       // target tokens prefilled by this run, a second of all of its time
  double prefill_seconds = 0.0;  // spent in the two models
  double text_wait_seconds = 0.0;   // waited for the next batch's texts and ids
  double write_wait_seconds = 0.0;  // waited for the writer
  // Processor time, all threads together, and what is not prefill's of it.
  double cpu_seconds = 0.0;
  double text_cpu_seconds = 0.0;     // reading and tokenising documents
  double rows_cpu_seconds = 0.0;     // rows out of caches, looked at, handed to the system
  double publish_cpu_seconds = 0.0;  // closing, hashing, flushing, the manifest
  int64_t resumed_samples = 0;       // found done
  int64_t skipped_documents = 0;     // malformed, with --skip-bad
  double alignment_covered = 0.0;    // mean share of target tokens that overlap a source token

  nlohmann::ordered_json meter;  // total_seconds, peak_memory_bytes, phases (stage_meter.h)

  nlohmann::ordered_json to_json() const;
};

// Writes under context.paths.dataset. Throws Error: kInput (corpus, models, another recipe's
// folder), kDiskFull (before the work when it cannot fit, or when the disk fills up; published
// shards stay), kTerminated and kInterrupted when asked to stop (published shards stay).
// `writers`: shards written at once; 0: one on a CPU, whose processors belong to prefill, four on a
// GPU. The files are the same.
GenerateResult generate(const Recipe& recipe, const RunContext& context, int64_t writers = 0);

}  // namespace kvlingua
