#include "kvlingua/kernels/dense.h"

#include <ATen/ATen.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdlib>
#include <optional>
#include <string_view>

namespace kvlingua {
namespace {

using PointwiseSignature = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                                      c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);

// oneDNN's product with plain operands; nothing when this libtorch was built without it.
const std::optional<c10::TypedOperatorHandle<PointwiseSignature>>& onednn_linear() {
  static const auto handle = []() -> std::optional<c10::TypedOperatorHandle<PointwiseSignature>> {
    if (!at::hasMKLDNN()) return std::nullopt;
    // oneDNN keeps the code it made for each shape, a thousand of half a megabyte by default. Batches of texts come in
    // ever new shapes, so that memory would grow with the corpus. It looks here when it is first used.
    ::setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32", /*overwrite=*/0);
    const auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!found) return std::nullopt;
    return found->typed<PointwiseSignature>();
  }();
  return handle;
}

bool serves(const at::Tensor& x, const at::Tensor& weight) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && x.numel() > 0 &&
         weight.numel() > 0 && onednn_linear().has_value();
}

at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const std::optional<at::Tensor> b = bias.defined() ? std::optional(bias) : std::nullopt;
  return onednn_linear()->call(x, weight, b, "none", c10::List<std::optional<at::Scalar>>(), "");
}

class Dense : public torch::autograd::Function<Dense> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    return product(x, weight, bias.value_or(at::Tensor()));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const at::Tensor dy = gradients[0].contiguous();
    at::Tensor dx, dw, db;
    if (context->needs_input_grad(0)) dx = product(dy, weight.t(), {});
    const at::Tensor rows = dy.reshape({-1, dy.size(-1)});
    if (context->needs_input_grad(1)) dw = product(rows.t(), x.reshape({-1, x.size(-1)}).t(), {});
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) db = rows.sum(0);
    return {dx, dw, db};
  }
};

}  // namespace

at::Tensor dense(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!serves(x, weight)) {
    return bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight);
  }
  const bool differentiable = at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad() ||
                                                             (bias.defined() && bias.requires_grad()));
  return differentiable ? Dense::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt) : product(x, weight, bias);
}

}  // namespace kvlingua
