#include "eval/personas/classifiers.h"

#include <ATen/ATen.h>
#include <linear.h>
#include <torch/optim/lbfgs.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "eval/personas/random_forest.h"
#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

at::Tensor tensor_of(const FeatureRows& rows) {
  const auto width = static_cast<int64_t>(rows.empty() ? 0 : rows[0].size());
  const at::Tensor out = at::empty({static_cast<int64_t>(rows.size()), width}, at::kDouble);
  double* to = out.data_ptr<double>();
  for (const auto& row : rows) to = std::copy(row.begin(), row.end(), to);
  return out;
}

// Mean and deviation (n) of the training columns; a column that does not vary is left as it is.
struct Scale {
  at::Tensor mean, deviation;
  explicit Scale(const at::Tensor& train) : mean(train.mean(0, true)) {
    deviation = train.std(0, false, true);
    deviation =
        at::where(deviation > 1e-12 * (1 + mean.abs()), deviation, at::ones_like(deviation));
  }
  at::Tensor operator()(const at::Tensor& rows) const { return (rows - mean) / deviation; }
};

// Rows as liblinear wants them; its arrays must outlive the problem.
struct Nodes {
  std::vector<std::vector<feature_node>> rows;
  std::vector<feature_node*> pointers;
  // With a last feature that is always 1, for the intercept.
  explicit Nodes(const at::Tensor& from) {
    const at::Tensor values = from.contiguous();
    const int64_t width = values.size(1);
    for (int64_t r = 0; r < values.size(0); ++r) {
      auto& row = rows.emplace_back();
      for (int64_t f = 0; f < width; ++f)
        row.push_back({static_cast<int>(f + 1), values.const_data_ptr<double>()[r * width + f]});
      row.push_back({static_cast<int>(width + 1), 1});
      row.push_back({-1, 0});
    }
    for (auto& row : rows) pointers.push_back(row.data());
  }
};

std::vector<int64_t> linear_svm(const FeatureRows& train_rows, const std::vector<int64_t>& labels,
                                const FeatureRows& test_rows) {
  const at::Tensor train_matrix = tensor_of(train_rows);
  const Scale scale(train_matrix);
  Nodes rows(scale(train_matrix)), asked(scale(tensor_of(test_rows)));
  std::vector<double> wanted(labels.begin(), labels.end());
  problem set{};
  set.l = static_cast<int>(rows.rows.size());
  set.n = static_cast<int>(train_matrix.size(1)) + 1;
  set.y = wanted.data();
  set.x = rows.pointers.data();
  set.bias = 1;
  parameter how{};
  how.solver_type = L2R_L2LOSS_SVC;
  how.C = 1;
  how.eps = 1e-4;
  set_print_string_function([](const char*) {});
  const auto free_model = [](model* m) { free_and_destroy_model(&m); };
  const std::unique_ptr<model, decltype(free_model)> fitted(train(&set, &how), free_model);
  std::vector<int64_t> out;
  for (const feature_node* row : asked.pointers)
    out.push_back(static_cast<int64_t>(std::lround(predict(fitted.get(), row))));
  return out;
}

// Least of the summed cross-entropy and half the squared weights; the intercepts are free.
std::vector<int64_t> logistic(const FeatureRows& train_rows, const std::vector<int64_t>& labels,
                              int64_t kinds, const FeatureRows& test_rows) {
  const at::Tensor train_matrix = tensor_of(train_rows);
  const Scale scale(train_matrix);
  const auto with_one = [](const at::Tensor& rows) {
    return at::cat({rows, at::ones({rows.size(0), 1}, rows.options())}, 1);
  };
  const at::Tensor x = with_one(scale(train_matrix));
  const at::Tensor y = at::one_hot(at::tensor(labels, at::kLong), kinds).to(at::kDouble);
  at::Tensor weights = at::zeros({x.size(1), kinds}, at::kDouble);
  const int64_t features = x.size(1) - 1;
  // Two kinds share one weight vector: its two halves would be penalised half as much.
  const double penalty = (y.sum(0) > 0).sum().item<int64_t>() == 2 ? 2 : 1;
  torch::optim::LBFGS optimiser({weights}, torch::optim::LBFGSOptions(1)
                                               .max_iter(500)
                                               .tolerance_grad(1e-7)
                                               .tolerance_change(1e-12)
                                               .line_search_fn("strong_wolfe"));
  optimiser.step([&] {
    const at::Tensor log_shares = at::log_softmax(x.mm(weights), 1);
    const at::Tensor slopes = weights.narrow(0, 0, features);
    at::Tensor gradient = x.t().mm(log_shares.exp() - y);
    gradient.narrow(0, 0, features).add_(penalty * slopes);
    weights.mutable_grad() = gradient;
    return 0.5 * penalty * (slopes * slopes).sum() - (y * log_shares).sum();
  });
  // A kind without rows only ever loses.
  const at::Tensor absent = (y.sum(0) == 0).to(at::kDouble) * -1e300;
  const at::Tensor best =
      (with_one(scale(tensor_of(test_rows))).mm(weights) + absent).argmax(1).contiguous();
  return {best.const_data_ptr<int64_t>(), best.const_data_ptr<int64_t>() + best.numel()};
}

// Covariance (n) of centred rows, shrunk towards its mean variance (Ledoit & Wolf 2004).
at::Tensor ledoit_wolf(const at::Tensor& centred) {
  const double n = static_cast<double>(centred.size(0)), p = static_cast<double>(centred.size(1));
  const at::Tensor covariance = centred.t().mm(centred) / n;
  const double mean = covariance.diagonal().sum().item<double>() / p;
  const at::Tensor squares = centred * centred;
  const double beta_sum = squares.t().mm(squares).sum().item<double>();
  const double delta_sum = (covariance * covariance).sum().item<double>();
  const double spread = delta_sum - p * mean * mean;
  const double beta = std::min((beta_sum / n - delta_sum) / n, spread);
  const double shrinkage = spread > 0 ? std::max(0.0, beta) / spread : 0;
  return (1 - shrinkage) * covariance +
         shrinkage * mean * at::eye(centred.size(1), covariance.options());
}

std::vector<int64_t> lda(const FeatureRows& train_rows, const std::vector<int64_t>& labels,
                         int64_t kinds, const FeatureRows& test_rows) {
  const at::Tensor train = tensor_of(train_rows);
  const int64_t width = train.size(1);
  at::Tensor pooled = at::zeros({width, width}, at::kDouble);
  std::vector<at::Tensor> means;
  std::vector<double> priors;
  std::vector<int64_t> known;
  for (int64_t k = 0; k < kinds; ++k) {
    std::vector<int64_t> members;
    for (size_t i = 0; i < labels.size(); ++i)
      if (labels[i] == k) members.push_back(static_cast<int64_t>(i));
    if (members.empty()) continue;
    const at::Tensor rows = train.index_select(0, at::tensor(members, at::kLong));
    const Scale scale(rows);
    const double prior = static_cast<double>(members.size()) / static_cast<double>(labels.size());
    pooled += prior * scale.deviation.t() * ledoit_wolf(scale(rows)) * scale.deviation;
    means.push_back(rows.mean(0));
    priors.push_back(prior);
    known.push_back(k);
  }
  const at::Tensor centres = at::stack(means);  // [kinds, width]
  // Not positive definite where a feature never varies: the pseudo-inverse leaves it out.
  const at::Tensor weights = at::linalg_pinv(pooled, 1e-12, true).mm(centres.t());
  const at::Tensor offsets =
      at::tensor(priors, at::kDouble).log() - 0.5 * (centres.t() * weights).sum(0);
  const at::Tensor best = (tensor_of(test_rows).mm(weights) + offsets).argmax(1).contiguous();
  std::vector<int64_t> out;
  for (int64_t i = 0; i < best.numel(); ++i)
    out.push_back(known[static_cast<size_t>(best.const_data_ptr<int64_t>()[i])]);
  return out;
}

}  // namespace

const std::vector<std::string>& classifier_names() {
  static const std::vector<std::string> names = {"random_forest", "linear_svm",
                                                 "logistic_regression", "lda"};
  return names;
}

std::vector<int64_t> classify(const std::string& name, const FeatureRows& train,
                              const std::vector<int64_t>& labels, int64_t kinds,
                              const FeatureRows& test, const ClassifierOptions& options) {
  if (train.empty() || train.size() != labels.size() || train[0].empty())
    throw Error({.code = ExitCode::kUsage,
                 .where = "classify",
                 .what = "rows with a label each are needed",
                 .got = cat(train.size(), " rows, ", labels.size(), " labels")});
  if (test.empty()) return {};
  if (std::ranges::all_of(labels, [&](int64_t l) { return l == labels[0]; }))
    return std::vector<int64_t>(test.size(), labels[0]);
  if (name == "linear_svm") return linear_svm(train, labels, test);
  if (name == "logistic_regression") return logistic(train, labels, kinds, test);
  if (name == "lda") return lda(train, labels, kinds, test);
  if (name == "random_forest") {
    const RandomForest forest(train, labels, kinds, options.trees, options.seed);
    std::vector<int64_t> out;
    for (const auto& row : test) out.push_back(forest.predict(row));
    return out;
  }
  throw Error({.code = ExitCode::kUsage,
               .where = "classify",
               .what = "no such classifier",
               .got = printable(name, 40)});
}

PrincipalComponents principal_components(const FeatureRows& rows, int64_t most) {
  const at::Tensor all = tensor_of(rows);
  const Scale scale(all);
  const at::Tensor x = scale(all);
  const auto [u, s, v] = at::linalg_svd(x, false);
  const at::Tensor variance = s * s;
  const double total = variance.sum().item<double>();
  const int64_t count = std::min({most, s.numel(), all.size(0) - 1});
  PrincipalComponents out;
  out.scores.resize(rows.size());
  for (int64_t c = 0; c < count; ++c) {
    out.explained.push_back(total > 0 ? variance[c].item<double>() / total : 0);
    at::Tensor score = (u.select(1, c) * s[c]).contiguous();
    if (score[score.abs().argmax()].item<double>() < 0) score = -score;
    for (size_t r = 0; r < rows.size(); ++r)
      out.scores[r].push_back(score.const_data_ptr<double>()[r]);
  }
  return out;
}

}  // namespace kvlingua
