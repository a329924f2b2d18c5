// Distillation on tiny random models: a lossless projector has no loss, gradients are those of the
// loss, training lowers it, and a resumed run is the same run.
#include "trainers/stages/distillation.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/identity.h"
#include "kvlingua/projector/ridge.h"
#include "support/tiny_model.h"
#include "trainers/engine/loss_scale.h"
#include "trainers/engine/trainer.h"

namespace kvlingua {
namespace {

std::vector<int64_t> tokens(Random& random, int64_t n) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int64_t>(random.below(90)));
  return ids;
}

// Items of different lengths; both models read the same ids.
std::vector<DistillationItem> make_items(int64_t n) {
  Random random(4);
  std::vector<DistillationItem> items;
  for (int64_t i = 0; i < n; ++i) {
    DistillationItem item;
    item.span = tokens(random, 4 + static_cast<int64_t>(random.below(5)));
    item.source_span = item.span;
    for (size_t t = 0; t < item.span.size(); ++t)
      item.source_index.push_back(static_cast<int64_t>(t));
    item.rest = tokens(random, 2 + static_cast<int64_t>(random.below(3)));
    item.answer = tokens(random, 1 + static_cast<int64_t>(random.below(4)));
    items.push_back(std::move(item));
  }
  return items;
}

struct Fixture {
  CausalLM source = kvlingua::testing::tiny_model(Architecture::kQwen3, 1);
  CausalLM target = kvlingua::testing::tiny_model(Architecture::kQwen2, 2);
  std::unique_ptr<Projector> projector;
  DistillationOptions options;
  Reader source_reader = reading(source, {1, 2, 3}), target_reader = reading(target, {4, 5});

  // After these tokens; no text is read here.
  static Reader reading(const CausalLM& model, const std::vector<int64_t>& before) {
    Reader reader;
    reader.model = &model;
    reader.before = before;
    const c10::NoGradGuard no_grad;
    reader.prefix = model.prefill(TokenBatch::from_rows({before})).cache;
    return reader;
  }

  Fixture() {
    options.batch.size = 3;
    ProjectorOptions p;
    p.kind = "ridge";
    projector = make_projector(source.kv_shape(), target.kv_shape(), p);
    at::manual_seed(3);
    for (auto& [name, tensor] : projector->parameters())
      tensor.copy_(at::randn(tensor.sizes()) * 0.1);
  }
  DistillationObjective objective(const Projector& p, int64_t cache_bytes = int64_t{1} << 30) {
    return DistillationObjective(p, source_reader, target_reader, {.items = make_items(40)},
                                 ChannelStatistics::identity(target.kv_shape()), options, 7,
                                 nullptr, 0, 1, cache_bytes);
  }
};

// So accumulation and several processes do not change the loss, however long an item's span is.
TEST(Distillation, EveryItemCountsAlike) {
  Fixture f;
  f.options.anchor = f.options.ce_weight = 1;
  DistillationObjective objective = f.objective(*f.projector);
  const c10::NoGradGuard no_grad;
  const auto all = objective.losses({0, 5, 11, 12});
  double kl = 0, cross_entropy = 0, anchor = 0;
  for (const int64_t item : {0, 5, 11, 12}) {
    const auto one = objective.losses({item});
    kl += one.kl.item<double>() / 4;
    cross_entropy += one.cross_entropy.item<double>() / 4;
    anchor += one.anchor.item<double>() / 4;
  }
  EXPECT_NEAR(all.kl.item<double>(), kl, 1e-5 * kl);
  EXPECT_NEAR(all.cross_entropy.item<double>(), cross_entropy, 1e-5 * cross_entropy);
  EXPECT_NEAR(all.anchor.item<double>(), anchor, 1e-5 * anchor);
}

TEST(Distillation, ALosslessCacheHasNoDivergence) {
  Fixture f;
  f.source_reader = f.target_reader;
  f.options.anchor = 1;
  const IdentityProjector identity(f.target.kv_shape(), f.target.kv_shape());
  DistillationObjective objective = f.objective(identity);
  const c10::NoGradGuard no_grad;
  const auto losses = objective.losses({0, 5, 11, 12});
  EXPECT_LT(losses.kl.item<double>(), 1e-6);
  EXPECT_LT(losses.anchor.item<double>(), 1e-6);
  // Another item's context, by contrast, shows.
  Fixture other;
  DistillationObjective wrong = other.objective(*other.projector);
  EXPECT_GT(wrong.losses({0, 5, 11, 12}).kl.item<double>(), 1e-2);
}

TEST(Distillation, BatchesDoNotChangeLosses) {
  Fixture f;
  f.options.ce_weight = 1;
  f.options.anchor = 1;
  DistillationObjective objective = f.objective(*f.projector),
                        alone = f.objective(*f.projector, /*cache_bytes=*/0);
  const c10::NoGradGuard no_grad;
  const auto all = objective.losses({3, 8, 20});
  double kl = 0, ce = 0;
  for (const int64_t i : {3, 8, 20}) {
    const auto one = alone.losses({i});
    kl += one.kl.item<double>() / 3;
    ce += one.cross_entropy.item<double>() / 3;
  }
  EXPECT_NEAR(all.kl.item<double>(), kl, 1e-5);
  EXPECT_NEAR(alone.losses({3, 8, 20}).kl.item<double>(), kl, 1e-5);  // prepared together
  EXPECT_NEAR(all.cross_entropy.item<double>(), ce, 1e-4);
}

TEST(Distillation, GradientsEqualFiniteDifferences) {
  for (const bool recompute : {false, true}) {
    Fixture f;
    f.options.ce_weight = 0.5;
    f.options.anchor = 0.5;
    f.options.checkpoint_activations = recompute ? "true" : "false";
    DistillationObjective objective = f.objective(*f.projector);
    const auto loss = [&] {
      const auto l = objective.losses({1, 2, 9});
      return l.kl + 0.5 * l.cross_entropy + 0.5 * l.anchor;
    };
    for (auto& [name, tensor] : f.projector->parameters()) tensor.requires_grad_(true);
    loss().backward();
    const c10::NoGradGuard no_grad;
    for (auto& [name, tensor] : f.projector->parameters()) {
      const at::Tensor direction = tensor.grad() / tensor.grad().norm();
      const double analytic = tensor.grad().norm().item<double>(),
                   h = 1e-2 / std::max(1.0, analytic);
      tensor.add_(direction, h);
      const double up = loss().item<double>();
      tensor.sub_(direction, 2 * h);
      const double down = loss().item<double>();
      tensor.add_(direction, h);
      EXPECT_NEAR((up - down) / (2 * h), analytic, 2e-2 * analytic)
          << name << (recompute ? ", recomputed" : "");
      EXPECT_GT(analytic, 1e-3);
    }
    for (const auto& [name, tensor] : f.target.parameters())
      EXPECT_FALSE(tensor.grad().defined()) << name;
  }
}

// The gradient that comes back through a float16 target, of a loss that is small,
// against float32's.
TEST(Distillation, ThroughAFloat16TargetAScaledLossKeepsItsGradient) {
  const auto gradient = [](at::ScalarType type, double share, bool scaled) {
    Fixture f;
    LoadOptions load;
    load.dtype = type;
    CausalLM target = CausalLM::random(f.target.config(), load, 2);
    const auto from = f.target.parameters(), to = target.parameters();
    for (size_t i = 0; i < to.size(); ++i) to[i].second.copy_(from[i].second);
    f.target = std::move(target);
    std::vector<at::Tensor> parameters;
    for (auto& [name, tensor] : f.projector->parameters())
      parameters.push_back(tensor.requires_grad_(true));
    DistillationObjective objective = f.objective(*f.projector);
    const at::Tensor loss = objective.losses({0, 5, 11, 12}).kl * share;
    LossScale scale(at::kCPU);
    (scaled ? scale.scaled(loss) : loss).backward();
    std::vector<at::Tensor> all;
    for (const at::Tensor& p : parameters)
      all.push_back(p.grad().defined() ? p.grad().flatten() : at::zeros({p.numel()}));
    at::Tensor flat = at::cat(all);
    EXPECT_TRUE(!scaled || scale.unscale(flat));
    return (flat / share).to(at::kDouble);
  };
  constexpr double kShare = 1e-4;  // of many micro-batches
  const at::Tensor exact = gradient(at::kFloat, kShare, false);
  const auto off = [&](const at::Tensor& g) {
    return ((g - exact).norm() / exact.norm()).item<double>();
  };
  const double with = off(gradient(at::kHalf, kShare, true)),
               without = off(gradient(at::kHalf, kShare, false));
  EXPECT_LT(with, 0.02);
  EXPECT_GT(without, 2 * with);
}

TEST(Distillation, TrainsAndResumesWithTheSameBits) {
  TrainerOptions options;
  options.optimizer.lr = 1e-2;
  options.total_steps = 30;
  options.save_every = 7;
  options.log_every = 5;
  options.validate_every = 10;
  const auto run = [&](const Checkpoint* from) {
    Fixture f;
    std::vector<Checkpoint> saved;
    DistillationObjective objective = f.objective(*f.projector);
    Observers none;
    if (from != nullptr)
      f.projector->load_state({from->projector.begin(), from->projector.end()}, "checkpoint");
    Trainer trainer(*f.projector, objective, options, none, [&](const Checkpoint& c) {
      saved.push_back(c.snapshot());
      return std::string("somewhere");
    });
    TrainState state;
    state.stage = "distillation";
    if (from != nullptr) {
      trainer.resume(*from, "checkpoint");
      state = from->state;
    }
    trainer.fit(state);
    return saved;
  };
  const std::vector<Checkpoint> whole = run(nullptr);
  EXPECT_LT(whole.back().state.last_loss, 0.7 * whole.back().state.first_loss);
  const std::vector<Checkpoint> rest = run(&whole[1]);
  for (size_t i = 0; i < whole.back().projector.size(); ++i) {
    EXPECT_TRUE(rest.back().projector[i].second.equal(whole.back().projector[i].second))
        << whole.back().projector[i].first;
  }
  EXPECT_EQ(rest.back().state.validation, whole.back().state.validation);
}

}  // namespace
}  // namespace kvlingua
