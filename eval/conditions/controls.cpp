#include "eval/conditions/controls.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

const KvCache& cache_of_item(Block& block, const Imitated& imitated, size_t i) {
  return block.injected(imitated.name, imitated.projector, i);
}

std::string whose(const Imitated& imitated) {
  return imitated.projector == nullptr ? "the target's own caches" : imitated.name + "'s caches";
}

// Un-rotated keys and values [L, 1, H, T, D] as a cache standing after the target's prefix.
KvCache standing(const Block& block, const at::Tensor& keys, const at::Tensor& values) {
  const at::Tensor positions = block.span_positions(keys.size(3));
  const at::ScalarType dtype = block.target().model->dtype();
  return KvCache(keys, values, positions, std::nullopt)
      .rotated_to(block.target().model->rope(), positions)
      .to(keys.device(), dtype);
}

class Noise : public Condition {
 public:
  explicit Noise(const Imitated& imitated)
      : Condition("noise", "Gaussian noise with the mean and deviation of " + whose(imitated) +
                               " in each layer, head and channel."),
        imitated_(imitated) {}
  Given give(Block& block, size_t i) const override {
    const at::NoGradGuard no_grad;
    const CacheMoments& moments = block.moments(imitated_.name, imitated_.projector);
    const int64_t tokens = cache_of_item(block, imitated_, i).tokens();
    // Drawn on the CPU, one seed an item: the same on every device and in every batch.
    auto generator = at::make_generator<at::CPUGeneratorImpl>(block.seed_of(i));
    const auto draw = [&](int64_t which) {
      const at::Tensor mean = moments.mean.select(0, which).unsqueeze(1).unsqueeze(3);
      const at::Tensor deviation = moments.deviation.select(0, which).unsqueeze(1).unsqueeze(3);
      const at::Tensor normal =
          at::randn({mean.size(0), 1, mean.size(2), tokens, mean.size(4)}, generator, at::kFloat);
      return mean + deviation * normal.to(mean.device());
    };
    const at::Tensor keys = draw(0), values = draw(1);
    return after_span(block, i, standing(block, keys, values), cat("noise", block.seed_of(i)));
  }

  const KvCache* must_differ_from(Block& block, size_t i) const override {
    return &cache_of_item(block, imitated_, i);
  }

 private:
  Imitated imitated_;
};

class Shuffled : public Condition {
 public:
  explicit Shuffled(const Imitated& imitated)
      : Condition("shuffled", "Another item's cache among " + whose(imitated) +
                                  ", at its own length; the question follows it. Who gets whose is "
                                  "fixed by the items' ids."),
        imitated_(imitated) {}
  Given give(Block& block, size_t i) const override {
    const size_t other = block.partner(i);
    return after_span(block, i, cache_of_item(block, imitated_, other),
                      "shuffled:" + block.item(other).probe->context);
  }

  const KvCache* must_differ_from(Block& block, size_t i) const override {
    return &cache_of_item(block, imitated_, i);
  }

 private:
  Imitated imitated_;
};

class Averaged : public Condition {
 public:
  explicit Averaged(const Imitated& imitated)
      : Condition(
            "averaged",
            "Each of " + whose(imitated) +
                " with every token replaced by the mean over its tokens (keys un-rotated, then "
                "rotated to where they stand)."),
        imitated_(imitated) {}
  Given give(Block& block, size_t i) const override {
    const at::NoGradGuard no_grad;
    const KvCache plain = cache_of_item(block, imitated_, i).unrotated();
    const auto mean = [](const at::Tensor& t) { return t.mean(3, true).expand_as(t).contiguous(); };
    return after_span(block, i, standing(block, mean(plain.keys()), mean(plain.values())),
                      "averaged:" + block.item(i).probe->context);
  }

  const KvCache* must_differ_from(Block& block, size_t i) const override {
    return &cache_of_item(block, imitated_, i);
  }

 private:
  Imitated imitated_;
};

class WrongSource : public Condition {
 public:
  explicit WrongSource(const Imitated& imitated)
      : Condition(
            "wrong_source",
            "As " + imitated.name +
                ", the target's own cache as it should be, but the source's of another item."),
        imitated_(imitated) {}
  Given give(Block& block, size_t i) const override {
    const at::NoGradGuard no_grad;
    const size_t other = block.partner(i);
    const at::Device device = block.target().model->device();
    const KvCache& read = block.read_by_source(other);
    std::vector<int64_t> index = block.item(i).source_index;
    for (int64_t& at : index) at = std::min(at, read.tokens() - 1);
    const KvCache here = read.to(device, read.keys().scalar_type());
    const at::Tensor source_index = at::tensor(index, at::kLong).unsqueeze(0).to(device);
    const KvCache fused =
        imitated_.projector
            ->translate({.source = here,
                         .source_index_BT = source_index,
                         .positions_BT = block.span_positions(static_cast<int64_t>(index.size())),
                         .rope = block.target().model->rope(),
                         .own = imitated_.projector->fuses() ? &block.own(i) : nullptr,
                         .draw = block.seed_of(i)})
            .to(device, block.target().model->dtype());
    return after_span(
        block, i, fused,
        cat("wrong_source:", block.item(i).probe->context, "|", block.item(other).probe->context));
  }

 private:
  Imitated imitated_;
};

}  // namespace

std::unique_ptr<Condition> make_wrong_source(const Imitated& imitated) {
  if (imitated.projector == nullptr)
    throw Error({.code = ExitCode::kUsage,
                 .where = "eval.conditions",
                 .what = "wrong_source needs a judged projector",
                 .got = imitated.name});
  return std::make_unique<WrongSource>(imitated);
}
std::unique_ptr<Condition> make_noise(const Imitated& imitated) {
  return std::make_unique<Noise>(imitated);
}
std::unique_ptr<Condition> make_shuffled(const Imitated& imitated) {
  return std::make_unique<Shuffled>(imitated);
}
std::unique_ptr<Condition> make_averaged(const Imitated& imitated) {
  return std::make_unique<Averaged>(imitated);
}

}  // namespace kvlingua
