#include "kvlingua/kernels/head_loss.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kvlingua/kernels/dense.h"

namespace kvlingua {
namespace {

at::ScalarType loss_type(const at::Tensor& rows) {
  return rows.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// d_logits [n, V] times the head, [n, C]; on the CPU through oneDNN as dense() does.
at::Tensor back_through(const at::Tensor& d_logits, const at::Tensor& weight_VC) {
  const at::Tensor d = d_logits.to(weight_VC.scalar_type());
  return dense(d, weight_VC.t());
}

struct Sums {
  at::Tensor cross_entropy, kl;      // scalars
  at::Tensor d_cross_entropy, d_kl;  // [N, C]; undefined where no gradient is wanted
};

class Pieces {
 public:
  Pieces(const at::Tensor& rows, const HeadLoss& what, bool want_gradient)
      : rows_(rows), what_(what), want_gradient_(want_gradient), type_(loss_type(rows)) {
    const auto scalar = rows.options().dtype(type_).requires_grad(false);
    const auto like_rows = [&] {
      return at::empty(rows.sizes(), rows.options().requires_grad(false));
    };
    if (what.answers_N.defined()) {
      sums_.cross_entropy = at::zeros({}, scalar);
      if (want_gradient) sums_.d_cross_entropy = like_rows();
    }
    if (what.teacher_NC.defined()) {
      sums_.kl = at::zeros({}, scalar);
      if (want_gradient) sums_.d_kl = like_rows();
    }
  }

  Sums all() {
    int64_t step = what_.rows_at_once;
    if (step <= 0) step = std::max<int64_t>(1, (int64_t{1} << 25) / what_.weight_VC.size(0));
    for (int64_t begin = 0; begin < rows_.size(0); begin += step)
      piece(begin, std::min(step, rows_.size(0) - begin));
    return sums_;
  }

 private:
  at::Tensor logits(const at::Tensor& rows, int64_t begin, int64_t n) const {
    return dense(rows.narrow(0, begin, n), what_.weight_VC).to(type_);
  }

  at::Tensor weights(int64_t begin, int64_t n) const {
    return what_.weights_N.defined() ? what_.weights_N.narrow(0, begin, n).to(rows_.device(), type_)
                                     : at::Tensor();
  }

  void piece(int64_t begin, int64_t n) {
    at::Tensor logits = this->logits(rows_, begin, n);
    const at::Tensor weight = weights(begin, n);
    if (sums_.kl.defined()) kl(logits, weight, begin, n);
    if (sums_.cross_entropy.defined()) cross_entropy(logits, weight, begin, n);
  }

  // Leaves nothing of `logits` behind.
  void cross_entropy(at::Tensor& logits, const at::Tensor& weight, int64_t begin, int64_t n) {
    const at::Tensor ids = what_.answers_N.narrow(0, begin, n).unsqueeze(1);
    const at::Tensor normaliser = logits.logsumexp(1, /*keepdim=*/true);
    const at::Tensor loss = (normaliser - logits.gather(1, ids)).squeeze(1);
    sums_.cross_entropy.add_(weight.defined() ? (loss * weight).sum() : loss.sum());
    if (!want_gradient_) return;
    at::Tensor d = logits.sub_(normaliser).exp_();  // softmax
    d.scatter_add_(1, ids, at::full_like(normaliser, -1));
    if (weight.defined()) d.mul_(weight.unsqueeze(1));
    sums_.d_cross_entropy.narrow(0, begin, n).copy_(back_through(d, what_.weight_VC));
  }

  void kl(const at::Tensor& logits, const at::Tensor& weight, int64_t begin, int64_t n) {
    const double t = what_.temperature;
    const at::Tensor student = at::log_softmax(t == 1 ? logits : logits / t, 1);
    at::Tensor teacher = this->logits(what_.teacher_NC, begin, n);
    teacher = at::log_softmax(t == 1 ? teacher : teacher / t, 1);
    at::Tensor p = teacher.exp();
    const at::Tensor loss = (p * teacher.sub_(student)).sum(1) * (t * t);
    sums_.kl.add_(weight.defined() ? (loss * weight).sum() : loss.sum());
    if (!want_gradient_) return;
    at::Tensor d = student.exp().sub_(p).mul_(t);
    if (weight.defined()) d.mul_(weight.unsqueeze(1));
    sums_.d_kl.narrow(0, begin, n).copy_(back_through(d, what_.weight_VC));
  }

  const at::Tensor& rows_;
  const HeadLoss& what_;
  bool want_gradient_;
  at::ScalarType type_;
  Sums sums_;
};

struct Call : torch::CustomClassHolder {
  HeadLoss what;
};

class Function : public torch::autograd::Function<Function> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const at::Tensor& rows,
                                                const c10::intrusive_ptr<Call>& call) {
    const c10::NoGradGuard no_grad;
    const Sums sums = Pieces(rows.detach(), call->what, true).all();
    torch::autograd::variable_list losses, kept;
    if (sums.cross_entropy.defined())
      losses.push_back(sums.cross_entropy), kept.push_back(sums.d_cross_entropy);
    if (sums.kl.defined()) losses.push_back(sums.kl), kept.push_back(sums.d_kl);
    context->save_for_backward(kept);
    return losses;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto kept = context->get_saved_variables();
    at::Tensor d;
    for (size_t i = 0; i < kept.size(); ++i) {
      if (!gradients[i].defined()) continue;
      const at::Tensor part = kept[i] * gradients[i].to(kept[i].scalar_type());
      d = d.defined() ? d + part : part;
    }
    return {d, at::Tensor()};
  }
};

}  // namespace

HeadLosses head_loss(const at::Tensor& rows_NC, const HeadLoss& what) {
  TORCH_CHECK(rows_NC.dim() == 2 && !what.weight_VC.requires_grad());
  if (!(c10::GradMode::is_enabled() && rows_NC.requires_grad())) {
    const c10::NoGradGuard no_grad;
    const Sums sums = Pieces(rows_NC, what, false).all();
    return {sums.cross_entropy, sums.kl};
  }
  auto call = c10::make_intrusive<Call>();
  call->what = what;
  const auto losses = Function::apply(rows_NC, call);
  size_t i = 0;
  HeadLosses out;
  if (what.answers_N.defined()) out.cross_entropy = losses[i++];
  if (what.teacher_NC.defined()) out.kl = losses[i++];
  return out;
}

}  // namespace kvlingua
