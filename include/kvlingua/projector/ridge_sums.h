// RidgeSums: everything a linear regression needs to know of the data, gathered in one pass and
// independent of its size.
//
// Per problem (K from K and V from V; or, with joint features, one problem with keys and values
// side by side):
//   gram    [P, F, F]        sum of (x - mean)(x - mean)^T
//   cross   [P, F, G]        sum of (x - mean)(y - mean)^T
//   mean_x  [P, F], mean_y [P, G]
//   square_y [P, G]          sum of (y - mean)^2
// Blocks are centred on their own mean and multiplied in float32, then added in float64 with the
// correction of Chan, Golub and LeVeque (1983): no cancellation where the mean is large, and sums
// of two parts merge in any order.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kvlingua/projector/projector.h"

namespace kvlingua {

class RidgeSums {
 public:
  // `candidates`: the source layers that are gathered (evenly_spaced()); empty = every layer.
  // Memory grows with the square of their number.
  RidgeSums(const KvShape& source, const KvShape& target, bool joint, at::Device device = at::kCPU,
            std::vector<int64_t> candidates = {});

  RidgeSums(RidgeSums&&) = default;
  RidgeSums& operator=(RidgeSums&&) = default;
  RidgeSums clone() const;

  // Source row n is aligned to target row n. Any device; moved to the sums' device.
  void add(const CacheRows& source, const CacheRows& target);
  // Adds what another rank, or an earlier run, has gathered. Throws Error (kInput) when shapes
  // differ.
  void merge(const RidgeSums& other);
  // The sums of several processes: each calls this with what adds a tensor over all of them, in
  // place (every process the same result).
  void sum_over(const std::function<void(at::Tensor&)>& sum);

  // The same sums over the first `layers` layers of the source rows alone.
  RidgeSums first_layers(int64_t layers) const;

  int64_t count() const { return count_; }
  const KvShape& source_shape() const { return source_; }
  const std::vector<int64_t>& candidates() const { return candidates_; }
  const KvShape& target_shape() const { return target_; }
  bool joint() const { return joint_; }
  at::Device device() const { return gram_.device(); }
  // Features and targets of one problem.
  int64_t features() const { return gram_.size(1); }
  int64_t targets() const { return cross_.size(2); }
  int64_t problems() const { return gram_.size(0); }

  const at::Tensor& gram() const { return settle(), gram_; }
  const at::Tensor& cross() const { return settle(), cross_; }
  const at::Tensor& mean_x() const { return mean_x_; }
  const at::Tensor& mean_y() const { return mean_y_; }
  const at::Tensor& square_y() const { return square_y_; }
  // The same sums taken about other means (of the same problems): adds count * difference^T
  // difference.
  RidgeSums about(const at::Tensor& mean_x, const at::Tensor& mean_y) const;

  // To and from the tensors of a safetensors file ("count" is one of them).
  NamedTensors tensors() const;
  void load(const std::map<std::string, at::Tensor>& tensors, const std::string& where);

  // What one object holds, in bytes, whatever the number of tokens.
  static int64_t bytes(const KvShape& source, const KvShape& target, bool joint,
                       int64_t candidates = 0);

 private:
  RidgeSums(const RidgeSums&) = default;  // shares tensors: clone() and about() only

  at::Tensor room(at::Tensor& scratch, int64_t rows, int64_t columns) const;
  at::Tensor centred(const std::vector<at::Tensor>& parts, const at::Tensor& means);
  void add_gram(const at::Tensor& x, const at::Tensor& gram);
  void add_cross(const at::Tensor& x, const at::Tensor& y, int64_t problem, int64_t column,
                 const at::Tensor& means);
  // Adds the corrections for the blocks' means that wait: products of a few vectors, one pass over
  // the sums for many.
  void correct() const;
  // That, and the half of the Gram matrix that add() leaves out.
  void settle() const;

  KvShape source_, target_;
  bool joint_;
  std::vector<int64_t> candidates_;
  at::Tensor candidate_index_;
  int64_t count_ = 0;
  at::Tensor gram_, cross_, mean_x_, mean_y_, square_y_;
  at::Tensor x_, y_, product_;  // float32 of one block: features, a panel of targets, its products
  mutable bool mirrored_ = true;
  mutable std::vector<at::Tensor> waiting_x_, waiting_y_;  // sqrt(weight) * difference of means
};

// `count` of `layers` layer indices, evenly spaced and with the last one; all of them for 0.
std::vector<int64_t> evenly_spaced(int64_t count, int64_t layers);

}  // namespace kvlingua
