#include "kvlingua/projector/c2c.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "kvlingua/projector/factory.h"

namespace kvlingua {
namespace {

const KvShape kSource{3, 1, 4}, kTarget{2, 2, 6};

ProjectorOptions options(const std::string& mode) {
  ProjectorOptions o;
  o.kind = "c2c";
  o.c2c.hidden_dim = o.c2c.intermediate_dim = 8;
  o.c2c.dropout = 0;
  o.c2c.mode = mode;
  return o;
}

KvCache any(const KvShape& s, int64_t tokens, bool rotated) {
  RopeSpec rope;
  rope.head_dim = s.head_dim;
  const KvCache plain(at::randn({s.layers, 2, s.kv_heads, tokens, s.head_dim}),
                      at::randn({s.layers, 2, s.kv_heads, tokens, s.head_dim}),
                      at::arange(tokens).unsqueeze(0).expand({2, tokens}).contiguous(),
                      std::nullopt);
  return rotated ? plain.rotated_to(rope, plain.positions()) : plain;
}

void open_gates(Projector& p) {
  for (const auto& [name, tensor] : p.parameters()) {
    if (name == "gate_logit") tensor.fill_(1);
  }
}

TEST(C2CProjector, FuseIsTheFuserOnRotatedKeys) {
  const auto projector = make_projector(kSource, kTarget, options("fuse"));
  open_gates(*projector);
  const KvCache source = any(kSource, 7, true), own = any(kTarget, 5, true);
  const at::Tensor index = at::tensor({0, 2, 2, 4, 6}).unsqueeze(0).expand({2, 5}).contiguous();
  TranslateInput input{.source = source};
  input.source_index_BT = index;
  input.own = &own;
  const KvCache out = projector->translate(input);
  const auto& fuser = static_cast<C2CProjector&>(*projector).fuser();
  EXPECT_TRUE(at::equal(out.keys(), fuser.fuse(source.select_tokens(index[0]), own, {}).keys()));
  EXPECT_GT((out.keys() - own.keys()).abs().max().item<float>(), 1e-4f);
  EXPECT_EQ(out.rope(), own.rope());
  input.own = nullptr;
  EXPECT_THROW(projector->translate(input), Error);
}

TEST(C2CProjector, TranslateNeedsNoTargetAndMovesWithItsPositions) {
  const auto projector = make_projector(kSource, kTarget, options("translate"));
  open_gates(*projector);
  const KvCache source = any(kSource, 5, true);
  RopeSpec rope;
  rope.head_dim = kTarget.head_dim;
  const auto at_position = [&](int64_t start) {
    TranslateInput input{.source = source};
    input.rope = rope;
    input.positions_BT = at::arange(start, start + 5).unsqueeze(0);
    return projector->translate(input);
  };
  const KvCache here = at_position(3), there = at_position(40);
  EXPECT_LT((here.unrotated().keys() - there.unrotated().keys()).abs().max().item<float>(), 1e-5f);
  EXPECT_TRUE(at::equal(here.values(), there.values()));
}

TEST(C2CProjector, StateAndConfigRoundTrip) {
  const auto projector = make_projector(kSource, kTarget, options("fuse"));
  open_gates(*projector);
  const auto back = projector_from_config(projector->config(), "test");
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : projector->state()) state[name] = tensor;
  back->load_state(state, "test");
  const KvCache source = any(kSource, 5, true), own = any(kTarget, 5, true);
  TranslateInput input{.source = source};
  input.own = &own;
  EXPECT_TRUE(at::equal(projector->translate(input).values(), back->translate(input).values()));
}

}  // namespace
}  // namespace kvlingua
