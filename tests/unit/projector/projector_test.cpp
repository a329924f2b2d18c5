// What holds of every kind: shapes, un-rotation and rotation around the map, alignment, state,
// gradients.
#include "kvlingua/projector/projector.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/identity.h"
#include "kvlingua/projector/mlp.h"
#include "kvlingua/projector/noise.h"
#include "tests/support/synthetic_rows.h"

namespace kvlingua {
namespace {

const KvShape kSource{3, 2, 4}, kTarget{2, 2, 6};

RopeSpec rope(int64_t head_dim, double theta) {
  RopeSpec spec;
  spec.head_dim = head_dim;
  spec.theta = theta;
  return spec;
}

KvCache cache(const KvShape& shape, int64_t batch, int64_t tokens, uint64_t seed,
              const RopeSpec& spec) {
  at::manual_seed(seed);
  const std::vector<int64_t> sizes{shape.layers, batch, shape.kv_heads, tokens, shape.head_dim};
  return KvCache(at::randn(sizes), at::randn(sizes),
                 (at::arange(tokens) + 5).expand({batch, tokens}).contiguous(), spec);
}

ProjectorOptions small(const std::string& kind, int64_t layers = 0,
                       const std::string& layout = "full") {
  ProjectorOptions options;
  options.kind = kind;
  options.ridge.source_layers = layers;
  options.ridge.layout = layout;
  options.ridge.lambda = {1e-3};
  options.mlp = {.hidden = 5, .depth = 2};
  options.lcf.latent = 4;
  options.dense_latent.expansion = 2;
  return options;
}

// Random weights everywhere, so that no gradient is zero by construction.
void randomise(Projector& projector, uint64_t seed) {
  at::manual_seed(seed);
  for (auto& [name, tensor] : projector.parameters()) tensor.copy_(at::randn(tensor.sizes()) * 0.3);
}

TEST(Rows, ComeBackAsTheSameCache) {
  const KvCache original = cache(kSource, 2, 5, 1, rope(4, 100)).unrotated();
  const KvCache back = cache_of(rows_of(original), original.positions());
  EXPECT_EQ(back.fingerprint(), original.fingerprint());
  EXPECT_THROW(rows_of(cache(kSource, 2, 5, 1, rope(4, 100))), Error);
}

TEST(Rows, PreviousTokensAreFurtherLayers) {
  const KvCache original = cache(kSource, 2, 5, 1, rope(4, 100)).unrotated();
  const at::Tensor index = at::tensor({0, 2, 2, 4, 1, 1, 3, 0}, at::kLong).view({2, 4});
  const CacheRows plain = rows_of(original, index), wide = rows_of(original, index, {2});
  EXPECT_EQ(wide.shape(), row_shape(kSource, {2}));
  EXPECT_TRUE(wide.keys_NLHD.narrow(1, 0, 3).equal(plain.keys_NLHD));
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t t = 0; t < 4; ++t) {
      for (int64_t j = 1; j <= 2; ++j) {
        const int64_t token = index[b][t].item<int64_t>() - j;
        const at::Tensor key = wide.keys_NLHD[b * 4 + t][2 + j],
                         value = wide.values_NLHD[b * 4 + t][2 + j];
        if (token < 0) {
          EXPECT_EQ(key.abs().max().item<float>() + value.abs().max().item<float>(), 0);
        } else {
          EXPECT_TRUE(key.equal(original.keys()[0][b].select(1, token)));
          EXPECT_TRUE(value.equal(original.values()[0][b].select(1, token)));
        }
      }
    }
  }
  EXPECT_TRUE(rows_of(original, {}, {2})
                  .keys_NLHD.equal(rows_of(original, at::arange(5).expand({2, 5}), {2}).keys_NLHD));
}

TEST(Rows, ProjectorsThatReadPreviousTokensTakeWiderRows) {
  for (const char* kind : {"ridge", "mlp"}) {
    ProjectorOptions options = small(kind);
    options.ridge.previous_tokens = 2;
    const auto projector = make_projector(kSource, kTarget, options);
    randomise(*projector, 3);
    EXPECT_EQ(projector->source_row_shape(), row_shape(kSource, {2})) << kind;
    const KvCache source = cache(kSource, 1, 4, 2, rope(4, 100));
    const KvCache got = projector->translate({.source = source});
    const CacheRows rows = rows_of(source.unrotated(), {}, {2});
    EXPECT_TRUE(at::allclose(rows_of(got).keys_NLHD, projector->translate_rows(rows).keys_NLHD));
    EXPECT_THROW(projector->translate_rows(rows_of(source.unrotated())), Error) << kind;
    const auto again = projector_from_config(projector->config(), "test");
    EXPECT_EQ(again->previous_tokens().tokens, 2) << kind;
  }
}

TEST(Rows, AlignmentPicksSourceTokens) {
  const KvCache original = cache(kSource, 2, 5, 1, rope(4, 100)).unrotated();
  const at::Tensor index = at::tensor({0, 4, 4, 1, 2, 3}, at::kLong).view({2, 3});
  const CacheRows rows = rows_of(original, index);
  ASSERT_EQ(rows.rows(), 6);
  EXPECT_TRUE(rows.keys_NLHD[1].equal(original.keys().select(1, 0).select(2, 4)));
  EXPECT_TRUE(rows.values_NLHD[5].equal(original.values().select(1, 1).select(2, 3)));
}

TEST(Identity, IsReRotationAlone) {
  const RopeSpec from = rope(4, 100), to = rope(4, 5000);
  const KvCache source = cache(kSource, 2, 5, 1, from);
  const IdentityProjector projector(kSource, kSource);
  const at::Tensor positions = at::arange(5).unsqueeze(0) + 30;
  const KvCache got =
      projector.translate({.source = source, .positions_BT = positions, .rope = to});
  const KvCache expected = source.unrotated().rotated_to(to, positions);
  EXPECT_TRUE(at::allclose(got.keys(), expected.keys(), 1e-6, 1e-6));
  EXPECT_TRUE(got.values().equal(source.values()));
  EXPECT_EQ(got.rope(), to);
  EXPECT_TRUE(got.positions()[1].equal(positions[0]));
  try {
    IdentityProjector wrong(kSource, kTarget);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(kSource.describe()), std::string::npos)
        << error.what();
    EXPECT_NE(std::string(error.what()).find(kTarget.describe()), std::string::npos)
        << error.what();
  }
}

TEST(Noise, HasTheTargetsMomentsAndNothingOfTheSource) {
  const support::LinearPair pair(kSource, kTarget, 4);
  const auto [source, target] = pair.rows(4000, 1);
  ChannelSums sums(kTarget);
  for (int64_t i = 0; i < 4000; i += 1000) sums.add(target.slice(i, i + 1000));
  NoiseProjector noise(kSource, kTarget, {});
  noise.set_target_statistics(sums.statistics());
  const CacheRows drawn = noise.translate_rows(source, nullptr, 7);
  const auto moments = [](const at::Tensor& x_NLHD) {
    const at::Tensor by_head =
        x_NLHD.permute({1, 2, 0, 3}).reshape({kTarget.layers * kTarget.kv_heads, -1});
    return std::pair{by_head.mean(1), by_head.std(1)};
  };
  for (const auto& [got, expected] :
       {std::pair{drawn.keys_NLHD, target.keys_NLHD}, {drawn.values_NLHD, target.values_NLHD}}) {
    EXPECT_TRUE(at::allclose(moments(got).first, moments(expected).first, 0.05, 0.1));
    EXPECT_TRUE(at::allclose(moments(got).second, moments(expected).second, 0.03, 0.01));
  }
  EXPECT_TRUE(noise.translate_rows({source.keys_NLHD * 3, source.values_NLHD}, nullptr, 7)
                  .keys_NLHD.equal(drawn.keys_NLHD));
  EXPECT_FALSE(noise.translate_rows(source, nullptr, 8).keys_NLHD.equal(drawn.keys_NLHD));
}

TEST(ChannelSums, EqualWholeMomentsAndMergeInAnyOrder) {
  at::manual_seed(3);
  const CacheRows rows{at::randn({300, 2, 2, 3}) * 4 + 100, at::randn({300, 2, 2, 3})};
  ChannelSums whole({2, 2, 3}), a({2, 2, 3}), b({2, 2, 3});
  whole.add(rows);
  a.add(rows.slice(0, 70));
  b.add(rows.slice(70, 300));
  b.merge(a);
  const ChannelStatistics one = whole.statistics(), two = b.statistics();
  EXPECT_TRUE(at::allclose(one.mean, two.mean, 1e-6, 1e-7));
  EXPECT_TRUE(at::allclose(one.deviation, two.deviation, 1e-6, 1e-7));
  EXPECT_TRUE(at::allclose(
      one.deviation[0],
      rows.keys_NLHD.to(at::kDouble).std(at::IntArrayRef{0}, false).to(at::kFloat), 1e-5, 1e-6));
  ChannelSums still({1, 1, 2});
  still.add({at::full({10, 1, 1, 2}, 7.1), at::full({10, 1, 1, 2}, 0.0)});
  EXPECT_TRUE(still.statistics().deviation.equal(at::ones({2, 1, 1, 2})));
}

TEST(Mlp, AtStepZeroEqualsRidge) {
  for (const auto& [layers, layout] : {std::pair<int64_t, std::string>{0, "full"},
                                       {1, "full"},
                                       {2, "head_matched"},
                                       {0, "head_matched"}}) {
    const support::LinearPair pair(kSource, kTarget, 4);
    const auto [source, target] = pair.rows(400, 1);
    const ProjectorOptions options = small("mlp", layers, layout);
    RidgeSums sums(kSource, kTarget, false);
    sums.add(source, target);
    const RidgeSolution solution = solve_ridge(sums, nullptr, options.ridge);
    RidgeProjector ridge(kSource, kTarget, options.ridge);
    ridge.adopt(solution);
    MlpProjector mlp(kSource, kTarget, options.ridge, options.mlp);
    mlp.base().adopt(solution);
    const CacheRows a = ridge.translate_rows(source), b = mlp.translate_rows(source);
    EXPECT_LE((a.keys_NLHD - b.keys_NLHD).abs().max().item<double>(), 1e-6) << layers << layout;
    EXPECT_LE((a.values_NLHD - b.values_NLHD).abs().max().item<double>(), 1e-6);
    EXPECT_GT(a.keys_NLHD.abs().max().item<double>(), 0.1);
  }
}

// A change of low rank starts as none, and is what is trained when the map stays.
TEST(Ridge, ChangeOfLowRankStartsAtNothingAndIsTrainedAlone) {
  const support::LinearPair pair(kSource, kTarget, 4);
  const CacheRows source = pair.rows(20, 1).first;
  ProjectorOptions options = small("ridge");
  const auto plain = make_projector(kSource, kTarget, options);
  options.ridge.change_rank = 3;
  const auto changed = make_projector(kSource, kTarget, options);
  for (auto& [name, tensor] : plain->parameters()) {
    tensor.copy_(at::randn(tensor.sizes()));
    by_name(changed->parameters()).at(name).copy_(tensor);
  }
  EXPECT_TRUE(
      plain->translate_rows(source).keys_NLHD.equal(changed->translate_rows(source).keys_NLHD));
  at::Tensor out = by_name(changed->parameters()).at("change.out");
  out.copy_(at::randn(out.sizes()));
  const CacheRows a = changed->translate_rows(source);
  EXPECT_GT((a.keys_NLHD - plain->translate_rows(source).keys_NLHD).abs().max().item<double>(), .1);
  // weight() is the whole map.
  by_name(plain->parameters()).at("weight").copy_(dynamic_cast<RidgeProjector&>(*changed).weight());
  EXPECT_TRUE(at::allclose(a.keys_NLHD, plain->translate_rows(source).keys_NLHD, 1e-4, 1e-4));
}

// Head by head and layer by layer, as the header says it.
TEST(DenseLatent, IsItsFormula) {
  const KvShape source{4, 4, 3}, target{3, 2, 5};
  ProjectorOptions options = small("dense_latent");
  const auto projector = make_projector(source, target, options);
  randomise(*projector, 3);
  const auto w = by_name(projector->parameters());
  const support::LinearPair pair(source, target, 4);
  const CacheRows x = pair.rows(7, 1).first, y = projector->translate_rows(x);
  for (int64_t l = 0; l < 3; ++l) {
    const int64_t from = std::vector<int64_t>{0, 2, 3}[static_cast<size_t>(l)];  // round(l * 3 / 2)
    for (int64_t part = 0; part < 2; ++part) {
      for (int64_t h = 0; h < 2; ++h) {
        const int64_t g = (l * 2 + part) * 2 + h;
        const at::Tensor in = (part == 0 ? x.keys_NLHD : x.values_NLHD)
                                  .select(1, from)
                                  .narrow(1, 2 * h, 2)
                                  .reshape({7, 6});
        const at::Tensor hidden =
            at::gelu(at::mm(in, w.at("first.weight")[g]) + w.at("first.bias")[g]);
        const at::Tensor out = at::sigmoid(w.at("gate.bias")[g]) *
                               (at::mm(hidden, w.at("second.weight")[g]) + w.at("second.bias")[g]);
        const at::Tensor got = (part == 0 ? y.keys_NLHD : y.values_NLHD).select(1, l).select(1, h);
        EXPECT_TRUE(at::allclose(got, out, 1e-4, 1e-5)) << l << part << h;
      }
    }
  }
}

TEST(Lcf, KeysAndValuesShareOneLatent) {
  const auto projector = make_projector(kSource, kTarget, small("lcf"));
  randomise(*projector, 3);
  const auto w = by_name(projector->parameters());
  const support::LinearPair pair(kSource, kTarget, 4);
  const CacheRows x = pair.rows(7, 1).first, y = projector->translate_rows(x);
  const int64_t last = kTarget.layers - 1;
  const at::Tensor in = at::cat({x.keys_NLHD.select(1, kSource.layers - 1).flatten(1),
                                 x.values_NLHD.select(1, kSource.layers - 1).flatten(1)},
                                1);
  const at::Tensor latent =
      at::gelu(at::mm(in, w.at("down.weight")[last]) + w.at("down.bias")[last]);
  const at::Tensor out = at::mm(latent, w.at("up.weight")[last]) + w.at("up.bias")[last];
  EXPECT_EQ(latent.size(1), 4);
  EXPECT_TRUE(at::allclose(y.keys_NLHD.select(1, last).flatten(1),
                           out.narrow(1, 0, kTarget.width()), 1e-4, 1e-5));
  EXPECT_TRUE(at::allclose(y.values_NLHD.select(1, last).flatten(1),
                           out.narrow(1, kTarget.width(), kTarget.width()), 1e-4, 1e-5));
}

// Several training seeds begin with several first weights: of every kind that trains, of none that
// draws as the recipe says.
TEST(Seeds, OfEveryKindThatTrainsAreMixedWithTheRuns) {
  ProjectorOptions asked, one, other;
  mix_seeds(one, 1);
  mix_seeds(other, 2);
  const auto rows = [](ProjectorOptions& o) { return describe_options(visit_of(o)); };
  const auto before = rows(asked), first = rows(one), second = rows(other);
  int64_t seeds = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const bool mixed = before[i].path.ends_with(".seed") && before[i].path != "noise.seed";
    EXPECT_EQ(before[i].value != first[i].value, mixed) << before[i].path;
    EXPECT_EQ(first[i].value != second[i].value, mixed) << before[i].path;
    seeds += mixed;
  }
  EXPECT_GE(seeds, 3);
  const auto weights = [](const ProjectorOptions& o) {
    return by_name(make_projector(kSource, kTarget, o)->parameters()).at("down.weight");
  };
  ProjectorOptions lcf = small("lcf");
  const at::Tensor as_asked = weights(lcf);
  mix_seeds(lcf, 1);
  EXPECT_FALSE(weights(lcf).equal(as_asked));
}

// Every kind with parameters, every layout: autograd against central differences in float64.
TEST(Gradients, EqualFiniteDifferences) {
  struct Case {
    std::string kind, layout;
    int64_t layers, rank;
  };
  std::vector<Case> cases{
      {"ridge", "full", 0, 0},       {"ridge", "full", 2, 0}, {"ridge", "head_matched", 2, 0},
      {"mlp", "full", 0, 0},         {"mlp", "full", 2, 0},   {"mlp", "full", 0, 3},
      {"mlp", "head_matched", 1, 0}, {"ridge", "full", 0, 2}, {"ridge", "head_matched", 2, 2}};
  for (const std::string& kind : projector_kinds()) {
    if (kind == "identity" || std::ranges::count(cases, kind, &Case::kind) > 0) continue;
    const auto projector = make_projector(kSource, kTarget, small(kind));
    // c2c reads the target's own cache too, and draws: its gradients have tests of their own.
    if (!projector->parameters().empty() && !projector->fuses()) cases.push_back({kind, "", 0, 0});
  }
  for (const Case& c : cases) {
    ProjectorOptions options = small(c.kind, c.layers, c.layout.empty() ? "full" : c.layout);
    (c.kind == "ridge" ? options.ridge.change_rank : options.mlp.rank) = c.rank;
    const auto projector = make_projector(kSource, kTarget, options);
    randomise(*projector, 9);
    const support::LinearPair pair(kSource, kTarget, 4);
    const auto [source, target] = pair.rows(6, 1);
    const auto loss = [&] {
      const CacheRows got = projector->translate_rows(source);
      return (got.keys_NLHD.to(at::kDouble) - target.keys_NLHD).square().sum() +
             (got.values_NLHD.to(at::kDouble) - target.values_NLHD).square().sum();
    };
    for (auto& [name, tensor] : projector->parameters()) tensor.requires_grad_(true);
    loss().backward();
    const c10::NoGradGuard no_grad;
    for (auto& [name, tensor] : projector->parameters()) {
      // Along one random direction per tensor: float32 forward, so steps are large and the
      // tolerance relative.
      at::manual_seed(21);
      const at::Tensor direction = at::randn(tensor.sizes());
      const double analytic = (tensor.grad().to(at::kDouble) * direction).sum().item<double>();
      const double h = 2e-3;
      tensor.add_(direction, h);
      const double up = loss().item<double>();
      tensor.sub_(direction, 2 * h);
      const double down = loss().item<double>();
      tensor.add_(direction, h);
      const double numeric = (up - down) / (2 * h);
      EXPECT_NEAR(analytic, numeric, 2e-3 * std::max(1.0, std::abs(numeric)))
          << c.kind << ' ' << c.layout << ' ' << c.layers << ' ' << name;
    }
  }
}

TEST(State, RoundTripsThroughConfigAndTensors) {
  for (const std::string& kind : projector_kinds()) {
    if (kind == "identity") continue;
    const auto original = make_projector(kSource, kTarget, small(kind, 2));
    randomise(*original, 5);
    std::map<std::string, at::Tensor> file;
    for (const auto& [name, tensor] : original->state()) file[name] = tensor.clone();
    const auto loaded =
        projector_from_config(nlohmann::json::parse(original->config().dump()), "projector.json");
    loaded->load_state(file, "projector.safetensors");
    const support::LinearPair pair(kSource, kTarget, 4);
    const CacheRows source = pair.rows(9, 1).first;
    EXPECT_TRUE(
        loaded->translate_rows(source).keys_NLHD.equal(original->translate_rows(source).keys_NLHD))
        << kind;
    EXPECT_EQ(loaded->parameter_count(), original->parameter_count());
    file.erase(file.begin());
    EXPECT_THROW(loaded->load_state(file, "projector.safetensors"), Error);
  }
  EXPECT_THROW(projector_from_config({{"kind", "ridge"}}, "projector.json"), Error);
  EXPECT_THROW(projector_from_config({{"kind", "teleport"}, {"source", {}}}, "projector.json"),
               Error);
}

TEST(Translate, RefusesAnotherShapeNamingBoth) {
  const auto projector = make_projector(kSource, kTarget, small("ridge"));
  const KvCache wrong = cache({3, 2, 8}, 1, 4, 1, rope(8, 100));
  try {
    projector->translate({.source = wrong});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInput);
    EXPECT_NE(std::string(error.what()).find("3 layers x 2 KV heads x 8 channels"),
              std::string::npos)
        << error.what();
    EXPECT_NE(std::string(error.what()).find(kSource.describe()), std::string::npos)
        << error.what();
  }
}

TEST(Translate, BatchOfItemsEqualsSingleItems) {
  const auto projector = make_projector(kSource, kTarget, small("mlp"));
  randomise(*projector, 5);
  const KvCache source = cache(kSource, 3, 6, 2, rope(4, 100));
  const at::Tensor index = at::tensor({0, 1, 5, 2, 2, 3, 4, 5, 0}, at::kLong).view({3, 3});
  const RopeSpec to = rope(6, 1000);
  const KvCache all =
      projector->translate({.source = source, .source_index_BT = index, .rope = to});
  for (int64_t b = 0; b < 3; ++b) {
    const KvCache one_source = source.select_batch(at::tensor({b}));
    const KvCache one = projector->translate(
        {.source = one_source, .source_index_BT = index.narrow(0, b, 1), .rope = to});
    EXPECT_TRUE(at::allclose(all.keys().narrow(1, b, 1), one.keys(), 1e-5, 1e-6));
  }
}

}  // namespace
}  // namespace kvlingua
