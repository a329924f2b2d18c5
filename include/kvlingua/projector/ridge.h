// ridge: a linear map with intercept from the channels of several source layers to each target
// layer, solved in closed form (ridge_sums.h, ridge_solve.h). Both the strong baseline and what mlp
// starts from.
//
// After the cross-model cache mapper of arXiv 2608.03893 and CacheBridge, arXiv 2609.00891. Reading
// *all* source layers matters most: the map from the one aligned layer fails on behaviour even
// where its R2 looks fair.
//
// With previous_tokens a row also holds the tokens before the aligned one, by their first layer or
// by previous_layers. What one model writes at a token (whose value it is, say), the other may look
// up later from the tokens around it: then it is not in the aligned token's cache, and no map of
// that alone finds it. With a budget only so many of all these are read (ridge_choice.h).
//
//   y = (standardised(x) W + b) * target deviation + target mean
//   standardised: per channel;  W [groups, in, out]
//
// With change_rank r, W + A B stands for W: a change of low rank that gradient stages train while
// the closed-form map itself stays frozen. B starts at zero.
#pragma once

#include <vector>

#include "kvlingua/config/projector_options.h"
#include "kvlingua/projector/block_linear.h"
#include "kvlingua/projector/projector.h"
#include "kvlingua/projector/ridge_solve.h"
#include "kvlingua/projector/statistics.h"

namespace kvlingua {

PreviousTokens previous_tokens(const RidgeOptions& options);

// The layers of a source row (row_shape()) that sums are made of: the candidate layers, and all
// previous tokens. Throws Error (kUsage) where previous_layers names a layer that is not there.
std::vector<int64_t> ridge_candidates(const RidgeOptions& options, const KvShape& source);

// Which source blocks each target block reads, before layers are chosen by a solution.
BlockPlan ridge_plan(const RidgeOptions& options, const KvShape& source, const KvShape& target);
ParameterCount count_parameters(const RidgeOptions& options, const KvShape& source,
                                const KvShape& target);

class RidgeProjector : public Projector {
 public:
  // The zero map (predicts the target mean, here 0) until adopt() or load_state(). A plan with k <
  // all layers starts with the layers at the same relative depth.
  RidgeProjector(const KvShape& source, const KvShape& target, const RidgeOptions& options);
  void adopt(const RidgeSolution& solution);
  // Whitening alone, for training from the zero map.
  void set_statistics(const ChannelStatistics& source, const ChannelStatistics& target);

  std::string kind() const override { return "ridge"; }
  PreviousTokens previous_tokens() const override { return kvlingua::previous_tokens(options_); }
  CacheRows translate_rows(const CacheRows& source, const CacheRows* own = nullptr,
                           uint64_t draw = 0) const override;
  NamedTensors parameters() const override;
  NamedTensors buffers() const override;
  nlohmann::json config() const override;
  void to(at::Device device, at::ScalarType dtype) override;
  at::Device device() const override { return weight_.device(); }

  // For mlp, which adds its own output to the standardised one.
  at::Tensor standardised_source(const CacheRows& source) const;  // [N, channels], weights' dtype
  at::Tensor standardised_output(
      const at::Tensor& channels_NC) const;  // [N, 2, Lt, Ht, Dt], weights' dtype
  CacheRows destandardised(const at::Tensor& outputs_N2LHD) const;  // float32
  const BlockPlan& plan() const { return plan_; }
  at::Tensor weight() const;  // W, the change included: [groups, in, out]
  const ChannelStatistics& target_statistics() const { return target_; }

 private:
  RidgeOptions options_;
  BlockPlan plan_;
  ChannelStatistics source_, target_;
  at::Tensor weight_;                  // [groups, in, out]
  at::Tensor bias_;                    // [groups, 1, out]
  at::Tensor change_in_, change_out_;  // [groups, in, r] and [groups, r, out]; undefined without
};

}  // namespace kvlingua
