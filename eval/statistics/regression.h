// Ordinary least squares with cluster-robust errors, and what stands on it: means of clustered
// items and residuals free of length.
//
// Items from one template or document are not independent; their errors are clustered (Liang &
// Zeger 1986, with the CR1 factor G/(G-1) (n-1)/(n-k), as statsmodels OLS(cov_type="cluster")).
// Geometry claims are made on residuals after length is taken out.
#pragma once

#include <cstdint>
#include <vector>

#include "eval/statistics/interval.h"

namespace kvlingua::stats {

struct OlsResult {
  std::vector<double> coefficients;     // intercept first
  std::vector<double> standard_errors;  // clustered when groups were given, else the classical ones
  std::vector<double> p;  // normal for clustered errors, Student's t for classical ones
  std::vector<double> residuals;
  double r_squared = 0;
};

// `covariates`: columns of n values each; an intercept is added. `groups`: one label an item, or
// empty. Throws Error (kUsage) for unequal lengths, a column that the others determine, or fewer
// than two groups.
OlsResult ols(const std::vector<double>& y, const std::vector<std::vector<double>>& covariates,
              const std::vector<int64_t>& groups = {});

// What is left of y after a line in the covariates (length, say). Mean zero.
std::vector<double> residualise(const std::vector<double>& y,
                                const std::vector<std::vector<double>>& covariates);

// Mean with a normal interval from clustered errors.
Interval clustered_mean(const std::vector<double>& y, const std::vector<int64_t>& groups,
                        double confidence = 0.95);

}  // namespace kvlingua::stats
