// Muon for hidden matrices, AdamW for the rest: the optimizer of the language-model trainer.
//
// Muon (Jordan et al. 2024) replaces a matrix's momentum by its nearest semi-orthogonal matrix,
// found by five Newton-Schulz iterations, here in the gradient's own float32: the CPU has no fast
// bfloat16. Matrices of equal shape are stacked and iterated together.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace kvlingua {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

// The orthogonal factor of each matrix of [..., rows, columns], approximately: singular values end
// in about [.7, 1.2].
at::Tensor newton_schulz(const at::Tensor& matrices);

class LmOptimizer {
 public:
  struct Settings {
    double muon_momentum = .95;
    double beta1 = .9;
    double beta2 = .98;
    double weight_decay = 0;  // of matrices, times the rate
  };

  // Matrices whose name says that they are projections ("..._proj.weight") go to Muon.
  LmOptimizer(const NamedTensors& parameters, const Settings& settings);

  // One step with the gradients at hand; they are cleared afterwards.
  void step(double muon_lr, double adam_lr);

  // Moments by name, for saving; load() wants exactly the same names and shapes (throws Error
  // kInput).
  NamedTensors state() const;
  void load(const NamedTensors& state);

 private:
  struct MatrixGroup {  // matrices of one shape
    std::vector<std::string> names;
    std::vector<at::Tensor> matrices;
    at::Tensor momentum;  // [n, rows, columns]
  };
  void step_matrices(MatrixGroup& group, double lr);
  void step_others(double lr);

  Settings settings_;
  std::vector<MatrixGroup> groups_;
  NamedTensors others_;
  std::vector<at::Tensor> first_moments_, second_moments_, counts_;
};

}  // namespace kvlingua
