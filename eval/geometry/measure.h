// Measure: prompts through a model, greedily continued, and the geometry of the cache that is left.
//
// The cache holds the prompt and all new tokens but the last, which was never read (as after
// transformers' generate()). Prompts run in batches that follow from their order alone, and each
// result is a line of a file as soon as its batch is done: a run that was killed goes on there and
// ends with the same bits. A prompt that cannot be measured is kept with the reason, never dropped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "eval/geometry/cache_geometry.h"
#include "kvlingua/model/causal_lm.h"

namespace kvlingua {

struct MeasureRequest {
  std::string id;  // of its own
  std::vector<int64_t> ids;
};

// Above every figure of float32 entries; squares of it still are doubles.
inline constexpr double kLargestFigure = 1e48;

struct Measurement {
  std::string id;
  int64_t input_tokens = 0;
  int64_t cache_tokens = 0;
  std::vector<int64_t> written;  // new tokens, the end token included where it was reached
  CacheGeometry geometry;
  std::string failure;  // why there is no geometry; empty: there is
  bool ok() const { return failure.empty(); }
};

struct MeasureOptions {
  int64_t new_tokens = 30;  // 0: the prompt alone
  std::vector<int64_t> stop_ids;
  int64_t batch_size = 16;
  std::filesystem::path file;  // where results are kept; empty: nowhere
  std::string label = "measure";
  std::string salt;  // with the model, the requests and the settings: what stored results are of
  bool resume = true;
};

struct MeasureResult {
  std::vector<Measurement> measurements;  // in the order of the requests
  int64_t resumed = 0;
  double seconds = 0;     // of what was measured now
  int64_t positions = 0;  // cached by it
};

// Throws Error: kTerminated and kInterrupted when asked to stop (finished batches are kept).
MeasureResult measure(const CausalLM& model, const std::vector<MeasureRequest>& requests,
                      const MeasureOptions& options);

// One batch, nothing stored.
std::vector<Measurement> measure_batch(const CausalLM& model,
                                       const std::vector<MeasureRequest>& requests,
                                       const MeasureOptions& options);

}  // namespace kvlingua
