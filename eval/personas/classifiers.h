// Classifiers beside the headline's ridge, each trained on rows of features with a label each.
//
//   linear SVM           liblinear (squared hinge, L2, cost 1, one against the rest), features
//                        standardised by the training rows
//   logistic regression  multinomial, L2, cost 1, by torch's L-BFGS: scikit-learn's default
//                        (liblinear's own is one against the rest, and misses a middle class)
//   LDA                  pooled covariance, shrunk by Ledoit & Wolf (2004) inside each class:
//                        scikit-learn's LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
//   random forest        Breiman (2001): trees grown to purity on bootstrap samples, sqrt of the
//                        features tried at a split, mean of the leaves' shares
// All are deterministic; the forest by its seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kvlingua {

using FeatureRows = std::vector<std::vector<double>>;

struct ClassifierOptions {
  int64_t trees = 200;
  uint64_t seed = 0;
};

// "random_forest", "linear_svm", "logistic_regression", "lda": in the order reports use.
const std::vector<std::string>& classifier_names();

// The label of each row of `test`. Labels are 0 .. kinds - 1; a kind without training rows is never
// the answer. Throws Error (kUsage): no such classifier, no training rows.
std::vector<int64_t> classify(const std::string& name, const FeatureRows& train,
                              const std::vector<int64_t>& labels, int64_t kinds,
                              const FeatureRows& test, const ClassifierOptions& options = {});

// Principal components of standardised features (a column that does not vary is left out).
struct PrincipalComponents {
  std::vector<double> explained;  // share of the variance, largest first
  FeatureRows scores;             // [rows][components]; a component's largest score is positive
};
PrincipalComponents principal_components(const FeatureRows& rows, int64_t most = 10);

}  // namespace kvlingua
