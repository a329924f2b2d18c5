// Cross-entropy and KL divergence through a frozen vocabulary head, a few hundred rows of the
// vocabulary at a time.
//
// A vocabulary of 152,000 makes the logits of 2,048 tokens 1.2 GB of float32, and the usual losses
// keep them three times over. Both losses' gradients with respect to the logits are known as soon
// as the logits are, so each piece is made, its loss added and its gradient multiplied back through
// the head at once; what is kept for backward is [N, C].
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace kvlingua {

struct HeadLoss {
  at::Tensor weight_VC;  // the head, frozen
  at::Tensor answers_N;  // int64 ids for the cross-entropy; undefined: none is computed
  at::Tensor weights_N;  // float32, what each row counts; undefined: 1 each
  // What the head reads of the teacher, for KL(teacher || rows); undefined: none is computed.
  at::Tensor teacher_NC;
  // Of both distributions in the KL, which is multiplied by its square (Hinton et al. 2015).
  double temperature = 1;
  int64_t rows_at_once = 0;  // 0: 128 MiB of float32 logits
};

struct HeadLosses {
  at::Tensor cross_entropy,
      kl;  // float32 scalars, weighted sums over the rows; undefined where not asked for
};

// rows_NC: what the head reads (after the final norm), differentiable. Logits are rounded to the
// rows' type and the losses computed in float32, as with whole logits.
HeadLosses head_loss(const at::Tensor& rows_NC, const HeadLoss& what);

}  // namespace kvlingua
