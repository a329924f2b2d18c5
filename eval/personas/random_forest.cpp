#include "eval/personas/random_forest.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kvlingua {

// Grows one tree on a bootstrap sample.
class RandomForest::Grower {
 public:
  Grower(const Rows& rows, const std::vector<int64_t>& labels, int64_t kinds, Random random)
      : rows_(rows), labels_(labels), kinds_(static_cast<size_t>(kinds)), random_(random) {
    features_.resize(rows[0].size());
    std::iota(features_.begin(), features_.end(), size_t{0});
    gain_.assign(features_.size(), 0);
    tried_ = std::max<size_t>(1, static_cast<size_t>(std::sqrt(features_.size())));
  }

  Tree grow() {
    std::vector<size_t> sample;
    for (size_t i = 0; i < rows_.size(); ++i) sample.push_back(random_.below(rows_.size()));
    node(std::move(sample));
    return std::move(tree_);
  }
  // By how much each feature's splits lowered the impurity, as shares of the whole.
  std::vector<double> importance() const {
    std::vector<double> shares = gain_;
    const double all = std::accumulate(shares.begin(), shares.end(), 0.0);
    for (double& share : shares) share = all > 0 ? share / all : 0;
    return shares;
  }

 private:
  struct Split {
    size_t feature = 0;
    double threshold = 0, impurity = INFINITY;
  };

  std::vector<double> counts_of(const std::vector<size_t>& sample) const {
    std::vector<double> counts(kinds_, 0);
    for (const size_t i : sample) counts[static_cast<size_t>(labels_[i])] += 1;
    return counts;
  }

  // The best threshold of one feature: the least n_left gini_left + n_right gini_right, which is n
  // less the sum of squared counts over n on either side.
  void look(size_t feature, std::vector<size_t>& sample, const std::vector<double>& counts,
            Split& best) const {
    std::sort(sample.begin(), sample.end(),
              [&](size_t a, size_t b) { return rows_[a][feature] < rows_[b][feature]; });
    std::vector<double> left(kinds_, 0), right = counts;
    double left_squares = 0, right_squares = 0;
    for (const double c : right) right_squares += c * c;
    const double n = static_cast<double>(sample.size());
    for (size_t i = 0; i + 1 < sample.size(); ++i) {
      const auto kind = static_cast<size_t>(labels_[sample[i]]);
      left_squares += 2 * left[kind] + 1;
      right_squares -= 2 * right[kind] - 1;
      left[kind] += 1;
      right[kind] -= 1;
      const double here = rows_[sample[i]][feature], next = rows_[sample[i + 1]][feature];
      if (!(next > here)) continue;
      const double below = static_cast<double>(i + 1);
      const double impurity = n - left_squares / below - right_squares / (n - below);
      if (impurity < best.impurity - 1e-12) best = {feature, here + (next - here) / 2, impurity};
    }
  }

  int32_t leaf(const std::vector<double>& counts, size_t n) {
    Node& node = tree_.emplace_back();
    for (const double c : counts) node.shares.push_back(c / static_cast<double>(n));
    return static_cast<int32_t>(tree_.size()) - 1;
  }

  int32_t node(std::vector<size_t> sample) {
    const std::vector<double> counts = counts_of(sample);
    if (std::ranges::count_if(counts, [](double c) { return c > 0; }) < 2)
      return leaf(counts, sample.size());
    Split best;
    // Features in random order; more than sqrt of them only while none could split.
    for (size_t tried = 0; tried < features_.size(); ++tried) {
      if (tried >= tried_ && std::isfinite(best.impurity)) break;
      std::swap(features_[tried], features_[tried + random_.below(features_.size() - tried)]);
      look(features_[tried], sample, counts, best);
    }
    if (!std::isfinite(best.impurity)) return leaf(counts, sample.size());
    const auto n = static_cast<double>(sample.size());
    double squares = 0;
    for (const double c : counts) squares += c * c;
    gain_[best.feature] += n - squares / n - best.impurity;
    const auto middle = std::partition(sample.begin(), sample.end(), [&](size_t i) {
      return rows_[i][best.feature] <= best.threshold;
    });
    const auto at = static_cast<int32_t>(tree_.size());
    tree_.emplace_back();
    const int32_t left = node({sample.begin(), middle}), right = node({middle, sample.end()});
    Node& here = tree_[static_cast<size_t>(at)];
    here.feature = static_cast<int32_t>(best.feature);
    here.threshold = best.threshold;
    here.left = left;
    here.right = right;
    return at;
  }

  const Rows& rows_;
  const std::vector<int64_t>& labels_;
  size_t kinds_;
  Random random_;
  std::vector<size_t> features_;
  std::vector<double> gain_;
  size_t tried_ = 1;
  Tree tree_;
};

RandomForest::RandomForest(const Rows& rows, const std::vector<int64_t>& labels, int64_t kinds,
                           int64_t trees, uint64_t seed)
    : kinds_(kinds), importance_(rows[0].size(), 0) {
  for (int64_t t = 0; t < trees; ++t) {
    Grower grower(rows, labels, kinds, Random(mix(seed, static_cast<uint64_t>(t))));
    trees_.push_back(grower.grow());
    const std::vector<double> one = grower.importance();
    for (size_t f = 0; f < one.size(); ++f) importance_[f] += one[f] / static_cast<double>(trees);
  }
}

int64_t RandomForest::predict(const std::vector<double>& row) const {
  std::vector<double> shares(static_cast<size_t>(kinds_), 0);
  for (const Tree& tree : trees_) {
    size_t at = 0;
    while (tree[at].feature >= 0) {
      const bool left = row[static_cast<size_t>(tree[at].feature)] <= tree[at].threshold;
      at = static_cast<size_t>(left ? tree[at].left : tree[at].right);
    }
    for (size_t k = 0; k < shares.size(); ++k) shares[k] += tree[at].shares[k];
  }
  return std::ranges::max_element(shares) - shares.begin();
}

}  // namespace kvlingua
