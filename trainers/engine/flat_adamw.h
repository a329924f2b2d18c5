// FlatAdamW: AdamW (Loshchilov and Hutter 2019) over all parameters as one flat tensor.
//
// The parameters become views of one tensor and their gradients views of another, so zeroing,
// clipping, the step and the average are one operation each, however many parameters there are.
// Weights of a half type keep float32 master copies, and their gradients are summed in float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "kvlingua/config/train_options.h"
#include "kvlingua/projector/projector.h"

namespace kvlingua {

class FlatAdamW {
 public:
  // `parameters`: leaves of one dtype on one device; they get requires_grad. `decayed[i]`: weight
  // decay applies to it.
  // master_copy false: half weights are changed in their own type, as Cache-to-Cache does.
  FlatAdamW(const NamedTensors& parameters, const std::vector<bool>& decayed,
            const OptimizerOptions& options, bool master_copy = true);

  // Nothing may be added to gradients between step() and this: step() may have cleared them
  // already.
  void zero_grad();
  // Once after each backward(); only half types need it (a float32 gradient adds up in place).
  void collect_grad();
  // All gradients, flat, float32: processes average theirs here, before clip().
  at::Tensor& gradient() { return master_gradient_; }
  // All weights, flat, float32; write_weights() after they were changed.
  const at::Tensor& weights() const { return master_; }
  void write_weights();
  // Scales the gradient to at most this norm (0: not at all), now or in step(); returns its norm
  // before, a tensor.
  at::Tensor clip(double max_norm);
  // May clear the gradient on its way over it.
  void step(double lr);

  int64_t steps() const { return steps_; }
  int64_t count() const { return master_.numel(); }

  // Moments, step count, master weights (half types) and averages: what a checkpoint needs besides
  // the parameters themselves.
  NamedTensors state() const;
  // Throws Error naming the tensor: kInput when it is missing or of another size, kCorrupt when it
  // holds a number that is not finite or a negative number of steps.
  void load_state(const std::map<std::string, at::Tensor>& state, const std::string& where);
  // First and second moments by parameter name, every parameter once.
  void adopt_moments(const std::map<std::string, std::pair<at::Tensor, at::Tensor>>& moments,
                     int64_t steps);

  // Exchanges parameters and averages (options.ema > 0); call twice.
  bool averaging() const { return average_.defined(); }
  void swap_average();
  // A copy of everything trained, to go back to.
  at::Tensor copy_weights() const { return master_.clone(); }
  void set_weights(const at::Tensor& flat);  // averages too

 private:
  struct Segment {
    int64_t begin = 0, size = 0;
    double weight_decay = 0;
  };
  void write_back();  // masters to half parameters

  NamedTensors parameters_;
  OptimizerOptions options_;
  bool one_pass_ = false;                // adamw_step() serves: float32 on the CPU
  double pending_scale_ = 1;             // of clip(), applied by step()
  bool clear_ = true;                    // the gradient is zero already
  std::vector<Segment> segments_;        // decayed, not decayed
  at::Tensor values_, gradients_;        // what parameters and their gradients are views of
  at::Tensor master_, master_gradient_;  // the same tensors when the parameters are float32
  at::Tensor first_, second_, average_;
  int64_t steps_ = 0;
};

}  // namespace kvlingua
