// The loop of the gradient stages: arithmetic of the optimizer, accumulation, exact resume,
// divergence, early stopping.
#include "trainers/engine/trainer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/mlp.h"
#include "tests/support/synthetic_rows.h"
#include "trainers/engine/schedule.h"
#include "trainers/stages/regression.h"

namespace kvlingua {
namespace {

const KvShape kSource{3, 2, 4}, kTarget{2, 1, 6};

// A projector over a pair with a nonlinear relation, its data and what fit() needs.
struct Fixture {
  support::LinearPair pair{kSource, kTarget, 3, 0.3};
  std::unique_ptr<Projector> projector;
  std::unique_ptr<RegressionObjective> objective;
  ChannelStatistics statistics;
  Observers observers;
  std::vector<Checkpoint> saved;
  TrainerOptions options;
  RegressionOptions regression;

  explicit Fixture(int64_t batch_size = 8, double dropout = 0.0, int64_t rows = 200) {
    pair.nonlinear = true;
    const auto [source, target] = pair.rows(rows, 1);
    ProjectorOptions p;
    p.kind = "mlp";
    p.ridge.lambda = {1e-3};
    p.mlp = {.hidden = 12, .depth = 2, .dropout = dropout};
    projector = make_projector(kSource, kTarget, p);
    RidgeSums sums(kSource, kTarget, false);
    sums.add(source, target);
    const RidgeSolution solution = solve_ridge(sums, nullptr, p.ridge);
    dynamic_cast<MlpProjector&>(*projector).base().adopt(solution);
    statistics = solution.target;
    options.optimizer = {.lr = 3e-3, .warmup_ratio = 0.1};
    options.total_steps = 24;
    options.log_every = 1;
    const auto [held_source, held_target] = pair.rows(50, 2);
    auto validation = std::make_shared<Validation>(
        std::vector<TrainBatch>{{.source = held_source, .target = held_target}}, statistics);
    objective = std::make_unique<RegressionObjective>(
        *projector, statistics, regression,
        std::make_unique<MemorySource>(source, target,
                                       MemorySource::Options{.batch_size = batch_size, .seed = 5}),
        validation);
    at::manual_seed(77);
  }

  Trainer trainer() {
    return Trainer(*projector, *objective, options, observers, [this](const Checkpoint& c) {
      saved.push_back(c.snapshot());
      return "step-" + std::to_string(c.state.global_step);
    });
  }
  TrainState run() {
    TrainState state;
    state.stage = "regression";
    Trainer t = trainer();
    t.fit(state);
    return state;
  }
};

void expect_same_bits(const Checkpoint& a, const Checkpoint& b, const std::string& what) {
  const auto compare = [&](const NamedTensors& x, const NamedTensors& y) {
    ASSERT_EQ(x.size(), y.size());
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(x[i].first, y[i].first);
      EXPECT_TRUE(x[i].second.equal(y[i].second)) << what << ": " << x[i].first;
    }
  };
  compare(a.projector, b.projector);
  compare(a.optimizer, b.optimizer);
  EXPECT_TRUE(a.rng.cpu.equal(b.rng.cpu)) << what;
  nlohmann::json x = a.state.to_json(), y = b.state.to_json();
  x.erase("seconds");
  y.erase("seconds");
  EXPECT_EQ(x, y) << what;
}

TEST(Schedule, WarmsUpAndDecays) {
  OptimizerOptions o{.lr = 1.0, .schedule = "linear", .warmup_steps = 4, .final_lr_ratio = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate(o, 0, 14), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate(o, 3, 14), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(o, 4, 14), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(o, 9, 14), 0.1 + 0.9 * 0.5);
  EXPECT_NEAR(learning_rate(o, 14, 14), 0.1, 1e-12);
  o.schedule = "cosine";
  EXPECT_NEAR(learning_rate(o, 9, 14), 0.1 + 0.9 * 0.5, 1e-12);
  EXPECT_NEAR(learning_rate(o, 6, 14), 0.1 + 0.9 * 0.5 * (1 + std::cos(M_PI * 0.2)), 1e-12);
  o.schedule = "constant";
  EXPECT_DOUBLE_EQ(learning_rate(o, 13, 14), 1.0);
}

TEST(FlatAdamW, FollowsTheFormula) {
  at::manual_seed(1);
  const at::Tensor a0 = at::randn({3, 4}), b0 = at::randn({5}), ga = at::randn({3, 4}),
                   gb = at::randn({5});
  at::Tensor a = a0.clone(), b = b0.clone();
  OptimizerOptions o{.lr = 0.1, .weight_decay = 0.2, .beta1 = 0.8, .beta2 = 0.9, .eps = 1e-6};
  FlatAdamW optimizer({{"b", b}, {"a", a}}, {false, true}, o);
  at::Tensor xa = a0.to(at::kDouble), xb = b0.to(at::kDouble), ma = at::zeros_like(xa),
             mb = at::zeros_like(xb), va = ma.clone(), vb = mb.clone();
  for (int64_t t = 1; t <= 3; ++t) {
    optimizer.zero_grad();
    (a * (ga * static_cast<double>(t))).sum().backward();
    (b * gb).sum().backward();
    optimizer.step(0.1);
    for (auto [x, m, v, g, decay] :
         {std::tuple{&xa, &ma, &va, (ga * static_cast<double>(t)).to(at::kDouble), 0.2},
          {&xb, &mb, &vb, gb.to(at::kDouble), 0.0}}) {
      *x = *x * (1 - 0.1 * decay);
      *m = 0.8 * *m + 0.2 * g;
      *v = 0.9 * *v + 0.1 * g * g;
      const double c1 = 1 - std::pow(0.8, t), c2 = 1 - std::pow(0.9, t);
      *x = *x - 0.1 * (*m / c1) / ((*v / c2).sqrt() + 1e-6);
    }
  }
  EXPECT_TRUE(at::allclose(a.detach().to(at::kDouble), xa, 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(b.detach().to(at::kDouble), xb, 1e-5, 1e-6));
}

TEST(FlatAdamW, ClipsToTheNorm) {
  at::Tensor a = at::zeros({4});
  FlatAdamW optimizer({{"a", a}}, {false}, {});
  optimizer.zero_grad();
  (a * at::tensor({3.f, 0.f, 4.f, 0.f})).sum().backward();
  EXPECT_NEAR(optimizer.clip(1.0).item<double>(), 5.0, 1e-5);
  // Seen in what the step does with it: the first moment is a tenth of the gradient.
  optimizer.step(1e-3);
  for (const auto& [name, tensor] : optimizer.state()) {
    if (name == "first_moment") {
      EXPECT_NEAR(tensor.norm().item<double>(), 0.1, 1e-6);
    }
  }
}

TEST(FlatAdamW, ADamagedStateIsRefusedByTheTensorsName) {
  at::Tensor a = at::zeros({4});
  FlatAdamW optimizer({{"a", a}}, {false}, {.ema = 0.5});
  const auto load = [&](const std::string& name, const at::Tensor& tensor) {
    const NamedTensors kept = optimizer.state();
    std::map<std::string, at::Tensor> state(kept.begin(), kept.end());
    tensor.defined() ? void(state[name] = tensor) : void(state.erase(name));
    try {
      optimizer.load_state(state, "optimizer.safetensors");
      return std::string("accepted");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt) << error.what();
      return std::string(error.what());
    }
  };
  EXPECT_EQ(load("steps", at::tensor({int64_t{7}}, at::kLong)), "accepted");
  EXPECT_EQ(optimizer.steps(), 7);
  EXPECT_EQ(load("steps", at::tensor({int64_t{-3}}, at::kLong)),
            "optimizer.safetensors: tensor steps: is no number of steps: got -3, expected 0 to "
            "9007199254740992; use an older checkpoint, or --restart");
  struct Case {
    const char* tensor;
    at::Tensor value;
    const char* said;
  };
  for (const auto& [tensor, value, said] :
       {Case{"steps", at::tensor({int64_t{1} << 62}, at::kLong), "no number of steps"},
        Case{"steps", at::tensor({7.0F}), "got Float [1], expected Long [1]"},
        Case{"steps", at::tensor({int64_t{1}, int64_t{2}}, at::kLong), "got Long [2]"},
        Case{"first_moment", at::full({4}, NAN), "NaN or infinity"},
        Case{"second_moment", at::full({4}, INFINITY), "NaN or infinity"},
        Case{"average", at::full({4}, NAN), "NaN or infinity"},
        Case{"weights", at::full({4}, NAN), "NaN or infinity"},
        Case{"second_moment", at::full({4}, -1e-3F), "got -0.001, expected 0 or more"},
        Case{"first_moment", at::zeros({4}, at::kLong), "got Long [4], expected Float [4]"},
        Case{"second_moment", at::zeros({4}, at::kDouble), "got Double [4], expected Float [4]"},
        Case{"first_moment", at::zeros({5}), "got Float [5], expected Float [4]"},
        Case{"second_moment", at::zeros({2, 2}), "got Float [2, 2], expected Float [4]"},
        Case{"first_moment", at::Tensor(), "got none, expected Float [4]"}}) {
    const std::string line = load(tensor, value);
    EXPECT_NE(line.find(std::string("tensor ") + tensor), std::string::npos) << line;
    EXPECT_NE(line.find(said), std::string::npos) << line;
    EXPECT_NE(line.find("use an older checkpoint"), std::string::npos) << line;
  }
}

// Finite numbers that this run cannot have written.
TEST(Trainer, AStateOfAnotherRunIsRefusedByItsField) {
  Fixture f;
  f.run();
  const auto resume = [&](const TrainState& state) {
    Checkpoint from = f.saved.back();
    from.state = state;
    from.state.loader = f.saved.back().state.loader;
    try {
      f.trainer().resume(from, "run/step-000024");
      return std::string("accepted");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kCorrupt) << error.what();
      return std::string(error.what());
    }
  };
  TrainState state;
  EXPECT_EQ(resume(state), "accepted");
  state.rate = f.options.optimizer.lr / 3;
  EXPECT_EQ(resume(state), "accepted");
  for (const double rate : {4.6e18, 0.01, 1e-9}) {
    state.rate = rate;
    EXPECT_NE(resume(state).find("run/step-000024/state.json: rate: not of this training run"),
              std::string::npos)
        << rate;
  }
  state.rate.reset();
  f.options.scale_loss = true;
  state.loss_scale = LossScaleState{.factor = 1024, .finite_steps = 1999};
  EXPECT_EQ(resume(state), "accepted");
  state.loss_scale->finite_steps = 2000;
  EXPECT_NE(resume(state).find("state.json: loss_scale.finite_steps"), std::string::npos);
}

TEST(FlatAdamW, HalfWeightsHaveMastersThatKeepSmallSteps) {
  at::Tensor a = at::ones({8}, at::kBFloat16);
  FlatAdamW optimizer({{"a", a}}, {false}, {.weight_decay = 0});
  for (int i = 0; i < 100; ++i) {  // each step is below bfloat16's resolution at 1
    optimizer.zero_grad();
    a.sum().backward();
    optimizer.collect_grad();
    optimizer.step(1e-3);
  }
  EXPECT_NEAR(a[0].item<float>(), 0.9, 0.005);
  EXPECT_EQ(a.scalar_type(), at::kBFloat16);
}

TEST(Trainer, AccumulationDoesNotChangeTheRun) {
  Fixture eight(8), two(2);
  two.options.accumulation = 4;
  const TrainState a = eight.run(), b = two.run();
  EXPECT_NEAR(a.last_loss, b.last_loss, 1e-5 * a.last_loss);
  EXPECT_NEAR(a.first_loss, b.first_loss, 1e-5 * a.first_loss);
  EXPECT_EQ(a.tokens, b.tokens);
  for (size_t i = 0; i < eight.saved.back().projector.size(); ++i) {
    EXPECT_TRUE(at::allclose(eight.saved.back().projector[i].second,
                             two.saved.back().projector[i].second, 1e-3, 1e-5))
        << eight.saved.back().projector[i].first;
  }
}

TEST(Trainer, LearnsWhatRidgeCannot) {
  Fixture f(100, 0.0, 3000);  // enough rows that the network does not learn them by heart
  f.options.total_steps = 400;
  const auto before = f.objective->validate();
  const TrainState state = f.run();
  EXPECT_GT(state.validation->scores->key_r2, before.numbers.scores->key_r2 + 0.02);
}

// A run that saves after every step; then a fresh process-worth of objects goes on from a few of
// those checkpoints and must end with the same bits.
void resumes_exactly(int64_t picks, double ema, bool keep_best = false) {
  Fixture whole(8, /*dropout=*/0.2);
  whole.options.keep_best = keep_best;
  whole.options.optimizer.ema = ema;
  whole.options.save_every = 1;
  whole.options.validate_every = 7;
  whole.options.patience = 50;
  whole.run();
  const Checkpoint& end = whole.saved.back();
  ASSERT_EQ(whole.saved.size(), 24u);
  Random random(9);
  for (int64_t i = 0; i < picks; ++i) {
    const size_t at = random.below(23);
    Fixture again(8, 0.2);
    again.options = whole.options;
    const Checkpoint& from = whole.saved[at];
    again.projector->load_state({from.projector.begin(), from.projector.end()}, "checkpoint");
    at::manual_seed(random.next());  // whatever the new process has drawn
    Trainer trainer = again.trainer();
    trainer.resume(from, "checkpoint");
    TrainState state =
        TrainState::from_json(nlohmann::json::parse(from.state.to_json().dump()), "state.json");
    trainer.fit(state);
    expect_same_bits(again.saved.back(), end, "resumed at step " + std::to_string(at + 1));
  }
}

TEST(Trainer, ResumesWithTheSameBits) { resumes_exactly(8, 0.0); }
TEST(Trainer, ResumesWithTheSameBitsWithAverages) { resumes_exactly(4, 0.9); }
TEST(Trainer, ResumesWithTheSameBitsKeepingTheBest) { resumes_exactly(4, 0.0, true); }

TEST(Trainer, StopsOrderlySavesAndGoesOn) {
  Fixture whole;
  whole.run();
  Fixture stopped;
  struct StopAt : Observer {
    void step(const StepReport& r) override {
      if (r.step == 9) request_stop(SIGTERM);
    }
  };
  stopped.observers.push_back(std::make_unique<StopAt>());
  TrainState state;
  state.stage = "regression";
  {
    Trainer trainer = stopped.trainer();
    try {
      trainer.fit(state);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kTerminated);
      EXPECT_NE(std::string(error.what()).find("step-9"), std::string::npos) << error.what();
    }
  }
  request_stop(0);
  Fixture again;
  const Checkpoint& from = stopped.saved.back();
  EXPECT_EQ(from.state.step, 9);
  again.projector->load_state({from.projector.begin(), from.projector.end()}, "checkpoint");
  Trainer trainer = again.trainer();
  trainer.resume(from, "step-9");
  state = from.state;
  trainer.fit(state);
  expect_same_bits(again.saved.back(), whole.saved.back(), "stopped at 9");
}

// The loss of its sixth micro-batch is no number.
struct Broken : Objective {
  Objective* inner;
  int64_t calls = 0;
  explicit Broken(Objective* o) : inner(o) {}
  MicroBatch next(bool parts) override {
    MicroBatch micro = inner->next(parts);
    if (++calls == 6) micro.loss = micro.loss * NAN;
    return micro;
  }
  ValidationResult validate() override { return inner->validate(); }
  nlohmann::json state() const override { return inner->state(); }
  void restore(const nlohmann::json& s) override { inner->restore(s); }
  int64_t micro_batches_per_epoch() const override { return 1; }
};

TEST(Trainer, DivergenceNamesTheStepAndTheLastGoodCheckpoint) {
  Fixture f;
  Broken broken(f.objective.get());
  f.options.save_every = 2;
  Trainer trainer(*f.projector, broken, f.options, f.observers, [&](const Checkpoint& c) {
    f.saved.push_back(c.snapshot());
    return "step-" + std::to_string(c.state.step);
  });
  TrainState state;
  state.stage = "regression";
  try {
    trainer.fit(state);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kFailed);
    EXPECT_NE(std::string(error.what()).find("step 6"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("step-4"), std::string::npos) << error.what();
  }
  EXPECT_EQ(f.saved.size(), 2u);
}

// A learning rate far too high: the stage ends at the validation that shows it, says why, and its
// result is the state before the first step.
TEST(Trainer, ADivergedStageEndsWithItsBestState) {
  Fixture f(8);
  const double start = f.objective->validate().score;
  const NamedTensors before = f.projector->state();
  std::vector<at::Tensor> copies;
  for (const auto& [name, tensor] : before) copies.push_back(tensor.clone());
  f.options.optimizer = {.lr = 30, .clip = 0, .schedule = "constant", .warmup_ratio = 0};
  f.options.total_steps = 400;
  f.options.validate_every = 5;
  f.options.keep_best = true;
  f.options.divergence_score = 1.25;
  f.options.remedy = "lower the rate";
  const TrainState state = f.run();
  ASSERT_TRUE(state.stopped.has_value());
  EXPECT_EQ(state.stopped->step, state.step);
  EXPECT_LE(state.step, 5);
  EXPECT_THAT(state.stopped->reason, ::testing::HasSubstr("before the first"));
  EXPECT_EQ(state.stopped->remedy, "lower the rate");
  EXPECT_EQ(state.best_step, 0);
  EXPECT_NEAR(*state.start_score, start, 1e-9);
  EXPECT_NEAR(f.objective->validate().score, start, 1e-9);
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_TRUE(f.saved.back().projector[i].second.equal(copies[i])) << before[i].first;
  EXPECT_TRUE(f.saved.back().state.stage_finished);
}

TEST(Trainer, R2FarBelowTheStartsEndsTheStageToo) {
  Fixture f(8);
  f.options.optimizer = {.lr = 0.3, .schedule = "constant", .warmup_ratio = 0};
  f.options.total_steps = 400;
  f.options.validate_every = 5;
  f.options.keep_best = true;
  f.options.divergence_r2 = 0.05;
  const TrainState state = f.run();
  ASSERT_TRUE(state.stopped.has_value());
  EXPECT_THAT(state.stopped->reason, ::testing::HasSubstr("R2"));
  EXPECT_LT(state.step, 400);
}

TEST(Trainer, ABrokenLossEndsWithTheBestStateToo) {
  Fixture f;
  Broken broken(f.objective.get());
  f.options.keep_best = true;
  f.options.validate_every = 2;
  Trainer trainer(*f.projector, broken, f.options, f.observers, [&](const Checkpoint& c) {
    f.saved.push_back(c.snapshot());
    return "step-" + std::to_string(c.state.step);
  });
  TrainState state;
  state.stage = "regression";
  trainer.fit(state);
  EXPECT_EQ(state.stopped->step, 6);
  EXPECT_EQ(state.step, 5);
  EXPECT_NEAR(f.objective->validate().score, *state.best_score, 1e-9);
}

// A rate far too high as the upper end: the one that is found trains, and the test leaves no trace
// but the rate.
TEST(Trainer, TheRangeTestFindsARateThatTrains) {
  Fixture f(100, 0.0, 3000), given(100, 0.0, 3000);
  f.options.validate_every = 10;
  f.options.optimizer = {.lr = 3, .schedule = "constant", .warmup_ratio = 0};
  f.options.range_test = f.options.keep_best = true;
  f.options.total_steps = given.options.total_steps = 60;
  const TrainState state = f.run();
  ASSERT_TRUE(state.rate.has_value());
  EXPECT_LT(*state.rate, 0.3);
  EXPECT_GE(*state.rate, 3e-3);
  EXPECT_LT(*state.best_score, *state.start_score);
  given.options.optimizer = f.options.optimizer;
  given.options.optimizer.lr = *state.rate;
  EXPECT_EQ(given.run().last_loss, state.last_loss);
}

// What gets better is left alone, and the result is never worse than the start.
TEST(Trainer, KeepingTheBestDoesNotChangeARunThatImproves) {
  Fixture plain(8), kept(8);
  kept.options.keep_best = true;
  kept.options.divergence_score = 1.25;
  kept.options.validate_every = 6;
  const TrainState a = plain.run(), b = kept.run();
  EXPECT_FALSE(b.stopped.has_value());
  EXPECT_LE(*b.best_score, *b.start_score);
  EXPECT_EQ(a.last_loss, b.last_loss);
}

TEST(Trainer, EarlyStoppingReturnsToTheBest) {
  Fixture f(8);
  f.options.optimizer = {.lr = 0.3, .schedule = "constant"};  // gets worse quickly
  f.options.total_steps = 400;
  f.options.validate_every = 5;
  f.options.patience = 3;
  const TrainState state = f.run();
  EXPECT_LT(state.step, 400);
  const double reported = state.validation->scores->key_r2;
  EXPECT_NEAR(f.objective->validate().numbers.scores->key_r2, reported, 1e-9);
  EXPECT_NEAR(f.objective->validate().score, *state.best_score, 1e-9);
}

// A loss whose gradient goes through float16: by `steps` factors of 2^-14, then one of `last`.
struct ThroughHalf : Objective {
  Objective* inner;
  int64_t steps;
  double last;
  ThroughHalf(Objective* o, int64_t n, double factor) : inner(o), steps(n), last(factor) {}
  MicroBatch next(bool parts) override {
    MicroBatch micro = inner->next(parts);
    at::Tensor half = micro.loss.to(at::kHalf) * last;
    for (int64_t i = 0; i < steps; ++i) half = half * std::exp2(-14);
    micro.loss = half.to(at::kFloat);
    return micro;
  }
  ValidationResult validate() override { return inner->validate(); }
  nlohmann::json state() const override { return inner->state(); }
  void restore(const nlohmann::json& s) override { inner->restore(s); }
  int64_t micro_batches_per_epoch() const override { return 1; }
};

struct HalfRun {
  Fixture f;
  ThroughHalf objective;
  TrainState state;

  HalfRun(int64_t steps, double last, bool scale)
      : objective((f.options.scale_loss = scale, f.options.save_every = 1, f.objective.get()),
                  steps, last) {
    f.options.optimizer.weight_decay = 0;
    state.stage = "distillation";
  }
  Trainer trainer() {
    return Trainer(*f.projector, objective, f.options, f.observers, [this](const Checkpoint& c) {
      f.saved.push_back(c.snapshot());
      return "step-" + std::to_string(c.state.step);
    });
  }
  at::Tensor weights() const {
    std::vector<at::Tensor> all;
    for (const auto& [name, tensor] : f.projector->parameters()) all.push_back(tensor.flatten());
    return at::cat(all).detach().clone();
  }
};

// 2^-28 of the gradient is nothing in float16.
TEST(Trainer, AGradientTooSmallForFloat16IsLearntFromWhenItsLossIsScaled) {
  HalfRun without(2, 1, false), with(2, 1, true);
  const at::Tensor start = with.weights();
  without.trainer().fit(without.state);
  EXPECT_TRUE(without.weights().equal(start));
  with.trainer().fit(with.state);
  EXPECT_GT((with.weights() - start).abs().max().item<double>(), 1e-4);
  // 65536 itself is beyond float16, half of it is not.
  EXPECT_EQ(with.state.loss_scale->skipped, 1);
  EXPECT_EQ(with.state.loss_scale->finite_steps, with.f.options.total_steps - 1);
}

// Scaled by 65536 the gradient is beyond 65504: steps are left out until it is not, and the rest is
// the run that began there.
TEST(Trainer, AGradientBeyondFloat16IsLeftOutAndTheFactorHalved) {
  HalfRun run(0, 4, true);
  const at::Tensor start = run.weights();
  run.trainer().fit(run.state);
  EXPECT_EQ(run.state.loss_scale->skipped, 3);  // 65536, 32768 and 16384 times four
  EXPECT_EQ(run.state.loss_scale->factor, 8192);
  EXPECT_TRUE(run.weights().isfinite().all().item<bool>());
  EXPECT_GT((run.weights() - start).abs().max().item<double>(), 1e-2);
  const auto steps = by_name(run.f.saved.back().optimizer).at("steps").item<int64_t>();
  EXPECT_EQ(steps, run.f.options.total_steps - 3);
  // Without, a loss beyond float16 ends the run.
  HalfRun broken(0, 131072, false);
  EXPECT_THROW(broken.trainer().fit(broken.state), Error);
}

TEST(Trainer, ScaledRunsResumeWithTheSameBits) {
  HalfRun whole(0, 4, true);
  whole.trainer().fit(whole.state);
  for (const size_t at : {0, 1, 9}) {  // while it is halved, and later
    HalfRun again(0, 4, true);
    const Checkpoint& from = whole.f.saved[at];
    again.f.projector->load_state({from.projector.begin(), from.projector.end()}, "checkpoint");
    Trainer trainer = again.trainer();
    trainer.resume(from, "checkpoint");
    TrainState state =
        TrainState::from_json(nlohmann::json::parse(from.state.to_json().dump()), "state.json");
    trainer.fit(state);
    expect_same_bits(again.f.saved.back(), whole.f.saved.back(), "resumed");
  }
}

TEST(Trainer, AGradientThatNoFactorMakesFiniteIsNamed) {
  HalfRun run(0, 1, true);
  struct Always : Objective {
    Objective* inner;
    explicit Always(Objective* o) : inner(o) {}
    MicroBatch next(bool parts) override {
      MicroBatch micro = inner->next(parts);
      // Finite itself; its slope is not.
      micro.loss = (micro.loss - micro.loss.detach()).sqrt() + micro.loss.detach();
      return micro;
    }
    ValidationResult validate() override { return inner->validate(); }
    nlohmann::json state() const override { return inner->state(); }
    void restore(const nlohmann::json& s) override { inner->restore(s); }
    int64_t micro_batches_per_epoch() const override { return 1; }
  } always(run.f.objective.get());
  run.f.options.total_steps = 100;
  Trainer trainer(*run.f.projector, always, run.f.options, run.f.observers,
                  [](const Checkpoint&) { return "x"; });
  try {
    trainer.fit(run.state);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("overflows float16"));
  }
}

}  // namespace
}  // namespace kvlingua
