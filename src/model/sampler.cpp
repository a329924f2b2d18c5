#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace kvlingua {

int64_t sample(std::span<const float> logits, const SamplingOptions& options, Random& random) {
  const double u = random.uniform();
  const auto size = static_cast<int64_t>(logits.size());
  std::vector<int64_t> kept(logits.size());
  for (int64_t i = 0; i < size; ++i) kept[static_cast<size_t>(i)] = i;
  const auto logit = [&](int64_t i) { return logits[static_cast<size_t>(i)]; };
  // Equal logits are ordered by index: the order, and so the draw, is the same on every machine.
  const auto before = [&](int64_t a, int64_t b) {
    return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
  };
  if (options.top_k > 0 && options.top_k < size) {
    std::nth_element(kept.begin(), kept.begin() + options.top_k - 1, kept.end(), before);
    const float least = logit(kept[static_cast<size_t>(options.top_k - 1)]);
    std::erase_if(kept, [&](int64_t i) { return logit(i) < least; });  // ties with the k-th stay
  }
  const bool nucleus = options.top_p < 1.0;
  if (nucleus) {
    std::sort(kept.begin(), kept.end(), before);
  } else {
    std::sort(kept.begin(), kept.end());
  }
  float highest = logit(kept[0]);
  for (const int64_t i : kept) highest = std::max(highest, logit(i));
  std::vector<double> weight(kept.size());
  double total = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    total += weight[i] =
        std::exp((static_cast<double>(logit(kept[i])) - highest) / options.temperature);
  }
  size_t count = kept.size();
  if (nucleus) {
    // The fewest tokens whose probability reaches top_p; at least one.
    double sum = weight[0];
    count = 1;
    while (count < kept.size() && sum < options.top_p * total) sum += weight[count++];
    total = sum;
  }
  double left = u * total;
  for (size_t i = 0; i < count; ++i) {
    left -= weight[i];
    if (left < 0) return kept[i];
  }
  return kept[count - 1];
}

}  // namespace kvlingua
