#include "eval/conditions/partial.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

std::string describe(const PartialOptions& options, const Imitated& imitated) {
  std::string layers = "all layers";
  if (!options.layers.empty()) {
    layers = "layers";
    for (int64_t layer : options.layers) layers += cat(" ", layer);
  }
  const char* what = options.keys ? (options.values ? "keys and values" : "keys") : "values";
  return cat("Partial transfer of ",
             imitated.projector == nullptr ? "the target's own cache" : imitated.name, ": ", what,
             " of ", layers, ", ", options.tokens == "all" ? "all" : options.tokens,
             " tokens; the rest of the cache is the mean over all items.");
}

class Partial : public Condition {
 public:
  Partial(const PartialOptions& options, const Imitated& imitated)
      : Condition(options.name, describe(options, imitated)),
        options_(options),
        imitated_(imitated) {}

  Given give(Block& block, size_t i) const override {
    const at::NoGradGuard no_grad;
    const KvCache whole = block.injected(imitated_.name, imitated_.projector, i);
    const KvCache plain = whole.unrotated();
    const CacheMoments& moments = block.moments(imitated_.name, imitated_.projector);
    const auto fill = [&](const at::Tensor& from, int64_t which, bool wanted) {
      const at::Tensor mean = moments.mean.select(0, which)
                                  .unsqueeze(1)
                                  .unsqueeze(3)
                                  .to(from.scalar_type())
                                  .expand_as(from);
      if (!wanted) return mean.contiguous();
      if (options_.layers.empty()) return from.contiguous();
      at::Tensor result = mean.clone();
      for (int64_t layer : options_.layers) result.select(0, layer).copy_(from.select(0, layer));
      return result;
    };
    KvCache part =
        KvCache(fill(plain.keys(), 0, options_.keys), fill(plain.values(), 1, options_.values),
                plain.positions(), std::nullopt)
            .rotated_to(block.target().model->rope(), plain.positions());
    const int64_t end = block.target().prefix_length() + part.tokens();
    const std::vector<int64_t> chosen = choose(block.item(i), part.tokens());
    part = chosen.empty() ? KvCache() : part.select_tokens(at::tensor(chosen, at::kLong));
    Given given = after_span(block, i, part.empty() ? whole.slice(0, 0) : part,
                             name() + ":" + block.item(i).probe->context);
    given.position = end;  // tokens left out leave a gap, they do not move the question
    return given;
  }

 private:
  std::vector<int64_t> choose(const Item& item, int64_t tokens) const {
    std::vector<int64_t> chosen;
    for (int64_t t = 0; t < tokens; ++t) {
      const bool marked = item.marked[static_cast<size_t>(t)];
      const bool take =
          options_.tokens == "all" || (options_.tokens == "first_half" && 2 * t < tokens) ||
          (options_.tokens == "second_half" && 2 * t >= tokens) ||
          (options_.tokens == "markers" && marked) || (options_.tokens == "others" && !marked);
      if (take) chosen.push_back(t);
    }
    return chosen;
  }

  PartialOptions options_;
  Imitated imitated_;
};

}  // namespace

std::unique_ptr<Condition> make_partial(const PartialOptions& options, const Imitated& imitated,
                                        const KvShape& target) {
  for (int64_t layer : options.layers)
    if (layer < 0 || layer >= target.layers)
      throw Error({.code = ExitCode::kUsage,
                   .where = cat("eval.partial ", options.name),
                   .what = "no such layer",
                   .got = cat(layer),
                   .expected = cat("0 to ", target.layers - 1)});
  return std::make_unique<Partial>(options, imitated);
}

}  // namespace kvlingua
