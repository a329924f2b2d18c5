// Trains a small language model from scratch on the built-in corpus, through the project's own
// CausalLM.
//
// Full training, no frozen part: Muon on hidden matrices, AdamW on the rest (lm_optimizer.h),
// weighted next-token loss (synthetic_corpus.h). Everything is a function of the options and their
// seeds. `out` gets the finished model as a Hugging Face directory; `work` the loss curve
// (loss.jsonl) and the state that a killed run goes on from.
#pragma once

#include <c10/core/Device.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "trainers/nano_lm/lm_options.h"
#include "trainers/nano_lm/lm_validation.h"

namespace kvlingua {

struct LmStepLine {
  int64_t step = 0;        // steps done
  double loss = 0;         // weighted mean over the steps since the last line
  double answer_loss = 0;  // nats a token of the answers alone
  double lr = 0;           // relative to the peak
  int64_t tokens = 0;      // read so far
  double seconds = 0;      // since the start of this process
};

// "step 120/1800 | loss 1.8421 | answers 1.2034 | lr 1.00 | 6.2k tok/s"
std::string describe(const LmStepLine& line, int64_t steps);

struct LmRun {
  std::filesystem::path out;
  std::filesystem::path work;
  at::Device device = at::kCPU;
  bool resume = true;
  std::function<void(const LmStepLine&)> on_step;
  std::function<void(int64_t step, const std::vector<LmScore>&)> on_validation;
  std::function<bool()> should_stop;  // asked after every step; state is saved before returning
};

struct LmResult {
  int64_t steps = 0;
  bool stopped = false;  // by should_stop; `out` was not written
  double last_loss = 0;
};

// The rate of step `step` (from 0), relative to the peak: linear warm-up, flat, linear decay.
double lm_learning_rate(const LmTrainOptions& options, int64_t step);

// Throws Error: kInput when `work` holds the state of other options; kFailed when the loss stops
// being finite.
LmResult train_language_model(const LmOptions& options, const LmRun& run);

}  // namespace kvlingua
