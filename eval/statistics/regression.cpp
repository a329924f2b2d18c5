#include "eval/statistics/regression.h"

#include <cmath>
#include <map>

#include "eval/statistics/distributions.h"
#include "kvlingua/base/error.h"

namespace kvlingua::stats {

namespace {

using Matrix = std::vector<std::vector<double>>;  // rows; a handful of columns

// Inverse of a small symmetric positive definite matrix by Gauss-Jordan with pivoting.
Matrix inverse(Matrix a) {
  const size_t k = a.size();
  Matrix result(k, std::vector<double>(k, 0));
  for (size_t i = 0; i < k; ++i) result[i][i] = 1;
  double scale = 0;
  for (size_t i = 0; i < k; ++i) scale = std::max(scale, std::abs(a[i][i]));
  for (size_t column = 0; column < k; ++column) {
    size_t pivot = column;
    for (size_t row = column + 1; row < k; ++row)
      if (std::abs(a[row][column]) > std::abs(a[pivot][column])) pivot = row;
    if (std::abs(a[pivot][column]) <= 1e-12 * scale)
      throw Error({.code = ExitCode::kUsage,
                   .where = "statistics: ols",
                   .what = "covariates determine each other",
                   .remedy = "drop the constant or repeated column"});
    std::swap(a[column], a[pivot]);
    std::swap(result[column], result[pivot]);
    const double by = a[column][column];
    for (size_t j = 0; j < k; ++j) a[column][j] /= by, result[column][j] /= by;
    for (size_t row = 0; row < k; ++row) {
      if (row == column) continue;
      const double factor = a[row][column];
      for (size_t j = 0; j < k; ++j)
        a[row][j] -= factor * a[column][j], result[row][j] -= factor * result[column][j];
    }
  }
  return result;
}

Matrix sandwich(const Matrix& bread, const Matrix& meat) {
  const size_t k = bread.size();
  Matrix half(k, std::vector<double>(k, 0)), full = half;
  for (size_t i = 0; i < k; ++i)
    for (size_t j = 0; j < k; ++j)
      for (size_t m = 0; m < k; ++m) half[i][j] += bread[i][m] * meat[m][j];
  for (size_t i = 0; i < k; ++i)
    for (size_t j = 0; j < k; ++j)
      for (size_t m = 0; m < k; ++m) full[i][j] += half[i][m] * bread[m][j];
  return full;
}

// Columns are centred for the solve (lengths of thousands against an intercept of one are badly
// scaled); the intercept follows.
struct Design {
  Matrix rows;
  std::vector<double> centres;
};

Design design(size_t n, const std::vector<std::vector<double>>& covariates) {
  Design result{Matrix(n, std::vector<double>(covariates.size() + 1, 1.0)),
                std::vector<double>(covariates.size() + 1, 0.0)};
  for (size_t c = 0; c < covariates.size(); ++c) {
    if (covariates[c].size() != n)
      throw Error({.code = ExitCode::kUsage,
                   .where = "statistics: ols",
                   .what = "columns of different length",
                   .got = cat(covariates[c].size()),
                   .expected = cat(n)});
    for (double v : covariates[c]) result.centres[c + 1] += v / static_cast<double>(n);
    for (size_t i = 0; i < n; ++i) result.rows[i][c + 1] = covariates[c][i] - result.centres[c + 1];
  }
  return result;
}

Matrix clustered_meat(const Matrix& rows, const std::vector<double>& residuals,
                      const std::vector<int64_t>& groups) {
  const size_t n = rows.size(), k = rows[0].size();
  if (groups.size() != n)
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics: ols",
                 .what = "one group label an item is needed",
                 .got = cat(groups.size()),
                 .expected = cat(n)});
  std::map<int64_t, std::vector<double>> scores;
  for (size_t i = 0; i < n; ++i) {
    auto& score = scores.try_emplace(groups[i], k, 0.0).first->second;
    for (size_t j = 0; j < k; ++j) score[j] += rows[i][j] * residuals[i];
  }
  if (scores.size() < 2)
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics: ols",
                 .what = "clustered errors need two groups",
                 .got = cat(scores.size())});
  const double g = static_cast<double>(scores.size());
  const double factor = g / (g - 1) * static_cast<double>(n - 1) / static_cast<double>(n - k);
  Matrix meat(k, std::vector<double>(k, 0));
  for (const auto& [label, score] : scores)
    for (size_t i = 0; i < k; ++i)
      for (size_t j = 0; j < k; ++j) meat[i][j] += factor * score[i] * score[j];
  return meat;
}

}  // namespace

OlsResult ols(const std::vector<double>& y, const std::vector<std::vector<double>>& covariates,
              const std::vector<int64_t>& groups) {
  const size_t n = y.size(), k = covariates.size() + 1;
  if (n <= k)
    throw Error({.code = ExitCode::kUsage,
                 .where = "statistics: ols",
                 .what = "not enough items",
                 .got = cat(n),
                 .expected = cat("more than ", k)});
  const Design x = design(n, covariates);
  Matrix gram(k, std::vector<double>(k, 0));
  std::vector<double> moment(k, 0);
  for (size_t i = 0; i < n; ++i)
    for (size_t a = 0; a < k; ++a) {
      moment[a] += x.rows[i][a] * y[i];
      for (size_t b = 0; b < k; ++b) gram[a][b] += x.rows[i][a] * x.rows[i][b];
    }
  const Matrix bread = inverse(gram);
  OlsResult result;
  result.coefficients.assign(k, 0);
  for (size_t a = 0; a < k; ++a)
    for (size_t b = 0; b < k; ++b) result.coefficients[a] += bread[a][b] * moment[b];
  double residual_square = 0, total_square = 0, mean = 0;
  for (double v : y) mean += v / static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) {
    double fitted = 0;
    for (size_t a = 0; a < k; ++a) fitted += x.rows[i][a] * result.coefficients[a];
    result.residuals.push_back(y[i] - fitted);
    residual_square += (y[i] - fitted) * (y[i] - fitted);
    total_square += (y[i] - mean) * (y[i] - mean);
  }
  result.r_squared = total_square > 0 ? 1 - residual_square / total_square : 0;

  const double df = static_cast<double>(n - k);
  Matrix covariance = bread;
  if (groups.empty()) {
    for (auto& row : covariance)
      for (double& v : row) v *= residual_square / df;
  } else {
    covariance = sandwich(bread, clustered_meat(x.rows, result.residuals, groups));
  }
  // Back from centred columns: intercept' = intercept - centres . slopes.
  std::vector<double> back(k, 0);
  back[0] = 1;
  for (size_t a = 1; a < k; ++a) {
    back[a] = -x.centres[a];
    result.coefficients[0] -= x.centres[a] * result.coefficients[a];
  }
  double intercept_variance = 0;
  for (size_t a = 0; a < k; ++a)
    for (size_t b = 0; b < k; ++b) intercept_variance += back[a] * covariance[a][b] * back[b];
  covariance[0][0] = intercept_variance;
  for (size_t a = 0; a < k; ++a) {
    const double error = std::sqrt(std::max(0.0, covariance[a][a]));
    result.standard_errors.push_back(error);
    const double z = error > 0 ? std::abs(result.coefficients[a]) / error : HUGE_VAL;
    result.p.push_back(groups.empty() ? 2 * student_cdf(-z, df) : 2 * normal_cdf(-z));
  }
  return result;
}

std::vector<double> residualise(const std::vector<double>& y,
                                const std::vector<std::vector<double>>& covariates) {
  return ols(y, covariates).residuals;
}

Interval clustered_mean(const std::vector<double>& y, const std::vector<int64_t>& groups,
                        double confidence) {
  const OlsResult fit = ols(y, {}, groups);
  const double half = normal_quantile(0.5 + confidence / 2) * fit.standard_errors[0];
  return {fit.coefficients[0], fit.coefficients[0] - half, fit.coefficients[0] + half};
}

}  // namespace kvlingua::stats
