// Ridge against numpy's solution of the same problem (scripts/goldens/ridge.py), within 1e-6
// relative.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/cache/tensor_file.h"
#include "kvlingua/projector/ridge.h"

namespace kvlingua {
namespace {

class RidgeGolden : public testing::TestWithParam<std::string> {
 protected:
  std::map<std::string, at::Tensor> data_ =
      read_tensors(KVLINGUA_TEST_DATA "/ridge/ridge.safetensors");
  CacheRows rows(const std::string& name) const {
    return {data_.at(name + ".keys"), data_.at(name + ".values")};
  }
};

TEST_P(RidgeGolden, EqualsNumpy) {
  RidgeOptions options;
  options.lambda = {1e-3};
  options.features = GetParam() == "both" ? "both" : "same";
  options.layout = GetParam() == "head_matched" ? "head_matched" : "full";
  const CacheRows source = rows("fit.source"), target = rows("fit.target");
  RidgeSums sums(source.shape(), target.shape(), GetParam() == "both");
  for (int64_t i = 0; i < source.rows(); i += 64)
    sums.add(source.slice(i, i + 64), target.slice(i, i + 64));
  RidgeProjector ridge(source.shape(), target.shape(), options);
  ridge.adopt(solve_ridge(sums, nullptr, options));
  const CacheRows got = ridge.translate_rows(rows("fresh.source"));
  const int64_t n = got.rows();
  for (const auto& [tensor, name] :
       {std::pair{got.keys_NLHD, "keys"}, {got.values_NLHD, "values"}}) {
    const at::Tensor expected = data_.at(GetParam() + "." + name);
    const double error =
        ((tensor.reshape({n, -1}).to(at::kDouble) - expected).norm() / expected.norm())
            .item<double>();
    EXPECT_LT(error, 1e-6) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, RidgeGolden, testing::Values("same", "both", "head_matched"));

}  // namespace
}  // namespace kvlingua
