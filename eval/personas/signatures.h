// Identity signatures: can a persona be told from the cache it leaves, in words not seen before?
//
// Six features a layer (norm, mean, deviation of keys and of values) go to a ridge classifier. The
// headline leaves one wording of every persona out together with one group of prompts. A text of
// any kind leaves its mark on a cache, so chance is the wrong bar: neutral topics in as many
// wordings are classified the same way, and a verdict needs accuracy above theirs and above what
// the number of tokens alone gives, on features with length taken out, and a permutation test that
// deals whole texts anew to the personas inside each wording, the choice of the ridge penalty
// inside the null.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eval/geometry/measure.h"
#include "eval/personas/design.h"

namespace kvlingua {

// One measured cache.
struct Signature {
  int64_t label = 0, wording = 0, group = 0, prompt = 0;
  std::vector<double> features;  // layer-major
  double length = 0;             // cached tokens
};
// The features of each layer, in this order.
inline constexpr std::array kLayerFeatures = {"key_norm",   "value_norm", "key_mean",
                                              "value_mean", "key_std",    "value_std"};
std::vector<double> signature_features(const CacheGeometry& geometry);

struct LeaveOut {
  double accuracy = 0;
  double penalty = 0;              // the best of those tried
  std::vector<double> by_penalty;  // accuracy of each
  std::vector<int64_t> predicted;  // of each signature, under the best
  std::vector<double> null;        // accuracy of each permutation, its own best penalty
  double p = 1;                    // (b + 1) / (n + 1); 1 without permutations
};
// Leave-one-wording-out x leave-one-prompt-group-out with one wording or group: the other one
// alone. Throws Error (kInput) when neither has two.
LeaveOut leave_out(const std::vector<Signature>& signatures, int64_t labels, int64_t permutations,
                   uint64_t seed);
// Features less what length does to them: a parabola, from variation inside a text (a label in one
// wording).
std::vector<Signature> without_length(std::vector<Signature> signatures);
// Length as the only feature.
std::vector<Signature> only_length(std::vector<Signature> signatures);

// The labels that a classifier (classifiers.h) which has learnt from the caches at `train` gives
// those at `test`.
std::vector<int64_t> classified(const std::string& name, const std::vector<Signature>& all,
                                const std::vector<size_t>& train, const std::vector<size_t>& test,
                                int64_t kinds, const IdentityOptions& options);

// estimate, low and high of the accuracy of `predicted`, texts and prompts resampled; `stream` sets
// this interval's draws apart from others'.
nlohmann::ordered_json accuracy_interval(const std::vector<Signature>& signatures,
                                         const std::vector<int64_t>& predicted,
                                         const IdentityOptions& options, uint64_t stream);

// Everything the report holds but metadata.
nlohmann::ordered_json analyse_signatures(const std::vector<Signature>& personas,
                                          const std::vector<Signature>& topics,
                                          const IdentityDesign& design,
                                          const IdentityOptions& options);

}  // namespace kvlingua
