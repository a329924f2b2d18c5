#include "kvlingua/kernels/dense.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace kvlingua {
namespace {

using PointwiseSignature = at::Tensor(const at::Tensor&, const at::Tensor&,
                                      const std::optional<at::Tensor>&, std::string_view,
                                      c10::List<std::optional<at::Scalar>>,
                                      std::optional<std::string_view>);

// oneDNN's product with plain operands; nothing when this libtorch was built without it.
const std::optional<c10::TypedOperatorHandle<PointwiseSignature>>& onednn_linear() {
  static const auto handle = []() -> std::optional<c10::TypedOperatorHandle<PointwiseSignature>> {
    if (!at::hasMKLDNN()) return std::nullopt;
    // oneDNN keeps the code it made for each shape, a thousand of half a megabyte by default.
    // Batches of texts come in ever new shapes, so that memory would grow with the corpus. It looks
    // here when it is first used.
    ::setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32", /*overwrite=*/0);
    // And libtorch a thousand of their descriptions, 20 kB each.
    ::setenv("LRU_CACHE_CAPACITY", "32", /*overwrite=*/0);
    const auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!found) return std::nullopt;
    return found->typed<PointwiseSignature>();
  }();
  return handle;
}

bool serves(const at::Tensor& x, const at::Tensor& weight) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat &&
         x.numel() > 0 && weight.numel() > 0 && onednn_linear().has_value();
}

at::Tensor product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const std::optional<at::Tensor> b = bias.defined() ? std::optional(bias) : std::nullopt;
  return onednn_linear()->call(x, weight, b, "none", c10::List<std::optional<at::Scalar>>(), "");
}

class Dense : public torch::autograd::Function<Dense> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
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

constexpr int64_t kPanel = 2048;  // outputs of one product: what it makes of a weight stays near

// Calls body(group) for all groups: a group a thread where there are enough of them, else the
// products inside share the threads.
template <class Body>
void each_group(int64_t groups, Body body) {
  const auto range = [&](int64_t begin, int64_t end) {
    const c10::NoGradGuard no_grad;
    for (int64_t g = begin; g < end; ++g) body(g);
  };
  if (groups >= 4 * at::get_num_threads()) {
    at::parallel_for(0, groups, 1, range);
  } else {
    range(0, groups);
  }
}

// oneDNN's fast products take matrices without gaps, as they are or transposed.
at::Tensor without_gaps(const at::Tensor& m) {
  return m.is_contiguous() || m.t().is_contiguous() ? m : m.contiguous();
}

// [G, N, K] x [G, K, M] -> [G, N, M]
at::Tensor group_products(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor out =
      at::empty({x.size(0), x.size(1), weight.size(2)}, x.options().requires_grad(false));
  each_group(x.size(0),
             [&](int64_t g) { out[g].copy_(product(x[g], without_gaps(weight[g]).t(), {})); });
  return out;
}

class DenseGroups : public torch::autograd::Function<DenseGroups> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight) {
    context->save_for_backward({x, weight});
    return group_products(x, weight);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const at::Tensor dy = gradients[0].contiguous();
    at::Tensor dx, dw;
    if (context->needs_input_grad(0)) dx = group_products(dy, weight.transpose(1, 2));
    if (context->needs_input_grad(1)) {
      const bool in_place = weight.is_leaf() && weight.grad().defined();
      const at::Tensor into =
          in_place ? weight.grad() : at::zeros_like(weight, weight.options().requires_grad(false));
      each_group(weight.size(0), [&](int64_t g) {
        for (int64_t first = 0; first < weight.size(2); first += kPanel) {
          const int64_t width = std::min(kPanel, weight.size(2) - first);
          const at::Tensor panel = dy[g].narrow(1, first, width).contiguous();
          into[g].narrow(1, first, width).add_(product(x[g].t(), panel.t(), {}));
        }
      });
      if (!in_place) dw = into;
    }
    return {dx, dw};
  }
};

}  // namespace

at::Tensor dense(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!serves(x, weight)) {
    return bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight);
  }
  const bool differentiable =
      at::GradMode::is_enabled() &&
      (x.requires_grad() || weight.requires_grad() || (bias.defined() && bias.requires_grad()));
  return differentiable
             ? Dense::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt)
             : product(x, weight, bias);
}

at::Tensor dense_groups(const at::Tensor& x, const at::Tensor& weight) {
  TORCH_CHECK(x.dim() == 3 && weight.dim() == 3 && x.size(0) == weight.size(0) &&
              x.size(2) == weight.size(1));
  if (!serves(x, weight)) return at::bmm(x, weight);
  const at::Tensor rows = x.contiguous();
  const bool differentiable =
      at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  return differentiable ? DenseGroups::apply(rows, weight) : group_products(rows, weight);
}

}  // namespace kvlingua
