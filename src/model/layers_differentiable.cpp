// The layers (layers.h) with autograd: what gradients through a frozen model need.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kvlingua/kernels/dense.h"
#include "kvlingua/kernels/qkv_rope.h"
#include "kvlingua/kernels/rms_norm.h"
#include "kvlingua/kernels/silu_mul.h"
#include "layers.h"

namespace kvlingua {

LayerOutput differentiable_layer(const ModelConfig& config, const LayerWeights& w,
                                 const AttentionFrame& frame, const at::Tensor& hidden,
                                 const at::Tensor& past_keys, const at::Tensor& past_values) {
  const int64_t rows = hidden.size(0), tokens = hidden.size(1), dim = config.head_dim;
  const at::Tensor x = rms_norm(hidden, w.input_norm, config.rms_norm_eps);
  const at::Tensor qkv = dense(x, LayerWeights::joined(w.qkv, w.qkv_parts),
                               LayerWeights::joined(w.qkv_bias, w.qkv_bias_parts));
  const SplitQkv split = split_qkv_rope(
      qkv, {frame.tables.cos, frame.tables.sin, w.q_norm, w.k_norm, config.rms_norm_eps},
      config.num_heads, config.num_kv_heads);
  LayerOutput out;
  out.queries = split.q;
  out.keys = split.k;
  out.values = split.v;
  const bool past = past_keys.defined() && past_keys.size(2) > 0;
  const auto seen = [&](const at::Tensor& before, const at::Tensor& own) {
    return frame.given ? before : past ? at::cat({before, own}, 2) : own;
  };
  const at::Tensor attended =
      attend(out.queries, seen(past_keys, out.keys), seen(past_values, out.values), frame);
  out.attended = attended.view({rows, tokens, config.num_heads, dim}).transpose(1, 2);
  const at::Tensor middle = hidden + dense(attended, w.o, w.o_bias);
  const at::Tensor y = rms_norm(middle, w.post_norm, config.rms_norm_eps);
  const at::Tensor gate_up = dense(y, LayerWeights::joined(w.gate_up, w.gate_up_parts),
                                   LayerWeights::joined(w.gate_up_bias, w.gate_up_bias_parts));
  out.hidden = middle + dense(silu_mul(gate_up), w.down, w.down_bias);
  return out;
}

namespace {

// Every tensor of a layer that may be trained, so that autograd sees them as inputs of the
// recomputed function.
std::vector<at::Tensor> trainables(const LayerWeights& w) {
  std::vector<at::Tensor> all{w.input_norm, w.post_norm, w.q_norm,       w.k_norm,
                              w.o.dense(),  w.o_bias,    w.down.dense(), w.down_bias};
  for (const auto* parts :
       {&w.qkv_parts, &w.qkv_bias_parts, &w.gate_up_parts, &w.gate_up_bias_parts}) {
    all.insert(all.end(), parts->begin(), parts->end());
  }
  std::erase_if(all, [](const at::Tensor& t) { return !t.defined() || !t.requires_grad(); });
  return all;
}

// Holds what is not a tensor for the backward pass; the model outlives its graphs.
struct LayerCall : torch::CustomClassHolder {
  const ModelConfig* config = nullptr;
  const LayerWeights* weights = nullptr;
  AttentionFrame frame;
};

class Checkpointed : public torch::autograd::Function<Checkpointed> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const c10::intrusive_ptr<LayerCall>& call,
                                                const at::Tensor& hidden,
                                                const std::optional<at::Tensor>& past_k,
                                                const std::optional<at::Tensor>& past_v,
                                                at::TensorList parameters) {
    (void)parameters;  // inputs of the node, read through call->weights
    const at::Tensor past_keys = past_k.value_or(at::Tensor()),
                     past_values = past_v.value_or(at::Tensor());
    context->saved_data["call"] = at::IValue::make_capsule(call);
    context->save_for_backward({hidden, past_keys, past_values});
    const LayerOutput out = differentiable_layer(*call->config, *call->weights, call->frame, hidden,
                                                 past_keys, past_values);
    return {out.hidden, out.keys, out.values.contiguous(), out.queries, out.attended};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto call =
        c10::static_intrusive_pointer_cast<LayerCall>(context->saved_data["call"].toCapsule());
    const auto saved = context->get_saved_variables();
    torch::autograd::variable_list inputs;
    std::vector<at::Tensor> again;
    // needs_input_grad counts defined tensors only: hidden is 0, a past (always both or none) 1
    // and 2.
    for (size_t i = 0; i < 3; ++i) {
      again.push_back(saved[i].defined()
                          ? saved[i].detach().requires_grad_(context->needs_input_grad(i))
                          : at::Tensor());
      if (again[i].defined() && again[i].requires_grad()) inputs.push_back(again[i]);
    }
    const auto parameters = trainables(*call->weights);
    inputs.insert(inputs.end(), parameters.begin(), parameters.end());
    torch::autograd::variable_list outputs, output_gradients;
    {
      const at::AutoGradMode grad(true);
      const LayerOutput out = differentiable_layer(*call->config, *call->weights, call->frame,
                                                   again[0], again[1], again[2]);
      const at::Tensor all[] = {out.hidden, out.keys, out.values, out.queries, out.attended};
      for (size_t i = 0; i < 5; ++i) {
        if (!gradients[i].defined() || !all[i].requires_grad()) continue;
        outputs.push_back(all[i]);
        output_gradients.push_back(gradients[i]);
      }
    }
    auto found = torch::autograd::grad(outputs, inputs, output_gradients, std::nullopt, false,
                                       /*allow_unused=*/true);
    torch::autograd::variable_list result(4 + parameters.size());
    size_t next = 0;
    for (size_t i = 0; i < 3; ++i) {
      if (again[i].defined() && again[i].requires_grad()) result[i + 1] = found[next++];
    }
    for (size_t i = 0; i < parameters.size(); ++i) result[4 + i] = found[next++];
    return result;
  }
};

}  // namespace

LayerOutput checkpointed_layer(const ModelConfig& config, const LayerWeights& weights,
                               const AttentionFrame& frame, const at::Tensor& hidden,
                               const at::Tensor& past_keys, const at::Tensor& past_values) {
  auto call = c10::make_intrusive<LayerCall>();
  call->config = &config;
  call->weights = &weights;
  call->frame = frame;
  const auto maybe = [](const at::Tensor& t) {
    return t.defined() ? std::optional(t) : std::nullopt;
  };
  const std::vector<at::Tensor> parameters = trainables(weights);
  const auto out = Checkpointed::apply(call, hidden, maybe(past_keys), maybe(past_values),
                                       at::TensorList(parameters));
  return {out[0], out[1], out[2], out[3], out[4]};
}

}  // namespace kvlingua
