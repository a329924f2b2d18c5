// What a kind is said to train from shapes alone is what it has once it is made.
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "kvlingua/projector/factory.h"
#include "kvlingua/projector/ridge.h"

namespace kvlingua {
namespace {

constexpr KvShape kSource{5, 4, 8}, kTarget{4, 2, 16};

void expect_exact(const ProjectorOptions& options, const std::string& what) {
  const KvShape& source = options.kind == "identity" ? kTarget : kSource;  // of like shapes alone
  const auto projector = make_projector(source, kTarget, options);
  EXPECT_EQ(count_parameters(options, source, kTarget).total(), projector->parameter_count())
      << options.kind << ", " << what;
}

TEST(ParameterCount, IsExactForEveryKind) {
  for (const std::string& kind : projector_kinds()) {
    ProjectorOptions options;
    options.kind = kind;
    options.c2c.hidden_dim = 24;
    options.c2c.intermediate_dim = 40;
    expect_exact(options, "defaults");
  }
}

TEST(ParameterCount, IsExactForEveryShapeOfTheLinearMap) {
  for (const char* kind : {"ridge", "mlp"}) {
    ProjectorOptions options;
    options.kind = kind;
    options.mlp.hidden = 12;
    for (const char* layout : {"full", "head_matched"}) {
      for (const char* features : {"same", "both"}) {
        for (const int64_t layers : {0, 2}) {
          for (const int64_t rank : {0, 3}) {
            RidgeOptions& ridge = options.ridge;
            ridge.layout = layout;
            ridge.features = features;
            ridge.source_layers = layers;
            ridge.change_rank = options.mlp.rank = rank;
            ridge.previous_tokens = rank;
            ridge.candidate_layers = layers == 0 ? 0 : 4;
            options.mlp.depth = 1 + rank / 3;
            expect_exact(options, cat(layout, ", ", features, ", ", layers, ", ", rank));
          }
        }
      }
    }
  }
}

TEST(ParameterCount, OfCacheToCache) {
  ProjectorOptions options;
  options.kind = "c2c";
  // Qwen2.5-0.5B into Qwen3-0.6B.
  EXPECT_EQ(count_parameters(options, {24, 2, 64}, {28, 8, 128}).total(), 477848056);
  // Its older class as its recipe has it, for the embedded pair.
  options.c2c.type = "AllInOneProjector";
  AllInOneOptions& older = options.c2c.all_in_one;
  older.swiglu = older.concat = older.weight_depends_on_input = true;
  older.weight_input = "target_projected_key";
  EXPECT_EQ(count_parameters(options, {5, 2, 64}, {4, 2, 32}).total(), 24282132);
}

TEST(ParameterCount, AFrozenMapIsNotTrained) {
  ProjectorOptions options;
  options.kind = "mlp";
  const ParameterCount count = count_parameters(options, kSource, kTarget);
  EXPECT_EQ(count.trained(false), count.over);
  EXPECT_EQ(count.trained(true), count.total());
  options.kind = "ridge";
  const ParameterCount bare = count_parameters(options, kSource, kTarget);
  EXPECT_EQ(bare.trained(false), bare.map) << "nothing stands over it";
}

}  // namespace
}  // namespace kvlingua
