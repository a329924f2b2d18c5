// A random forest of classification trees (classifiers.h).
#pragma once

#include <cstdint>
#include <vector>

#include "kvlingua/base/random.h"

namespace kvlingua {

class RandomForest {
 public:
  using Rows = std::vector<std::vector<double>>;
  RandomForest(const Rows& rows, const std::vector<int64_t>& labels, int64_t kinds, int64_t trees,
               uint64_t seed);
  int64_t predict(const std::vector<double>& row) const;
  // How much each feature's splits lower the Gini impurity, averaged over the trees; sums to 1, or
  // to 0 where nothing could be split.
  const std::vector<double>& importance() const { return importance_; }

 private:
  struct Node {
    int32_t feature = -1;  // -1: a leaf
    int32_t left = 0, right = 0;
    double threshold = 0;
    std::vector<double> shares;  // of the kinds; leaves only
  };
  using Tree = std::vector<Node>;
  class Grower;

  int64_t kinds_;
  std::vector<Tree> trees_;
  std::vector<double> importance_;
};

}  // namespace kvlingua
