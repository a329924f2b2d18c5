#include "kvlingua/projector/projector.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <sstream>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

std::string sizes(const at::Tensor& t) {
  std::ostringstream out;
  out << t.sizes();
  return out.str();
}

nlohmann::json to_json(const KvShape& shape) {
  return {{"layers", shape.layers}, {"kv_heads", shape.kv_heads}, {"head_dim", shape.head_dim}};
}

}  // namespace

KvShape CacheRows::shape() const {
  return {keys_NLHD.size(1), keys_NLHD.size(2), keys_NLHD.size(3)};
}

CacheRows CacheRows::to(at::Device device, at::ScalarType dtype) const {
  return {keys_NLHD.to(device, dtype), values_NLHD.to(device, dtype)};
}

CacheRows CacheRows::slice(int64_t begin, int64_t end) const {
  return {keys_NLHD.slice(0, begin, end), values_NLHD.slice(0, begin, end)};
}

CacheRows rows_of(const KvCache& cache, const at::Tensor& source_index_BT,
                  const PreviousTokens& previous) {
  if (cache.rope()) {
    throw Error({.what = "rows were asked of rotated keys", .expected = "an un-rotated cache"});
  }
  const auto rows = [&](const at::Tensor& x_LBHTD) {
    const at::Tensor x_BTLHD = x_LBHTD.permute({1, 3, 0, 2, 4});
    const at::IntArrayRef lhd = x_BTLHD.sizes().slice(2);
    if (!source_index_BT.defined()) return x_BTLHD.reshape({-1, lhd[0], lhd[1], lhd[2]});
    const at::Tensor token = source_index_BT.to(x_LBHTD.device());
    const at::Tensor row = at::arange(x_BTLHD.size(0), token.options()).unsqueeze(1);
    return at::index(x_BTLHD, {row, token}).reshape({-1, lhd[0], lhd[1], lhd[2]});
  };
  const CacheRows own{rows(cache.keys()), rows(cache.values())};
  if (previous.tokens == 0) return own;
  const int64_t batch = cache.batch();
  const at::Tensor token =
      source_index_BT.defined()
          ? source_index_BT.to(cache.keys().device())
          : at::arange(cache.tokens(), cache.positions().options()).expand({batch, cache.tokens()});
  const at::Tensor row = at::arange(batch, token.options()).unsqueeze(1);
  const auto widened = [&](const at::Tensor& own_rows, const at::Tensor& x_LBHTD) {
    std::vector<at::Tensor> layers{own_rows};
    for (int64_t j = 1; j <= previous.tokens; ++j) {
      const at::Tensor at = token - j;
      const at::Tensor there = (at >= 0).to(x_LBHTD.scalar_type()).unsqueeze(2).unsqueeze(3);
      for (const int64_t layer : previous.layers) {
        const at::Tensor x_BTHD = x_LBHTD[layer].transpose(1, 2);
        layers.push_back((at::index(x_BTHD, {row, at.clamp_min(0)}) * there)
                             .reshape({-1, 1, x_BTHD.size(2), x_BTHD.size(3)}));
      }
    }
    return at::cat(layers, 1);
  };
  return {widened(own.keys_NLHD, cache.keys()), widened(own.values_NLHD, cache.values())};
}

KvCache cache_of(const CacheRows& rows, const at::Tensor& positions_BT, const at::Tensor& mask_BT) {
  const int64_t batch = positions_BT.size(0), tokens = positions_BT.size(1);
  const auto stack = [&](const at::Tensor& x_NLHD) {
    return x_NLHD.reshape({batch, tokens, x_NLHD.size(1), x_NLHD.size(2), x_NLHD.size(3)})
        .permute({2, 0, 3, 1, 4})
        .contiguous();
  };
  return KvCache(stack(rows.keys_NLHD), stack(rows.values_NLHD), positions_BT, std::nullopt,
                 mask_BT);
}

void Projector::check_rows(const KvShape& got) const {
  const KvShape expected = source_row_shape();
  if (got == expected) return;
  throw Error(
      {.code = ExitCode::kInput,
       .where = cat("projector ", kind()),
       .what = "the source rows do not fit",
       .got = got.describe(),
       .expected = expected.describe(),
       .remedy = previous_tokens().tokens > 0 ? "each row holds its previous tokens too" : ""});
}

void Projector::check_source(const KvShape& got) const {
  if (got == source_shape_) return;
  throw Error({.code = ExitCode::kInput,
               .where = cat("projector ", kind()),
               .what = "the source cache does not fit",
               .got = got.describe(),
               .expected = source_shape_.describe(),
               .remedy = "use the models this projector was made for"});
}

KvCache Projector::translate(const TranslateInput& input) const {
  check_source(input.source.shape());
  const at::Device where = input.source.keys().device();
  const at::ScalarType dtype = input.source.keys().scalar_type();
  const int64_t batch = input.source.batch();
  const at::Tensor& index = input.source_index_BT;
  if (index.defined() &&
      (index.dim() != 2 || index.size(0) != batch || index.scalar_type() != at::kLong)) {
    throw Error({.code = ExitCode::kInput,
                 .where = cat("projector ", kind()),
                 .what = "the alignment does not fit",
                 .got = sizes(index),
                 .expected = cat("int64 [", batch, ", target tokens]")});
  }
  const int64_t tokens = index.defined() ? index.size(1) : input.source.tokens();
  const at::Tensor positions =
      (input.positions_BT.defined()
           ? input.positions_BT.to(where)
           : at::arange(tokens, at::device(where).dtype(at::kLong)).unsqueeze(0))
          .expand({batch, tokens})
          .contiguous();
  at::Tensor mask = input.mask_BT.defined() ? input.mask_BT.to(where) : input.source.mask();
  if (!input.mask_BT.defined() && mask.defined() && index.defined())
    mask = mask.gather(1, index.to(where));

  const CacheRows source =
      rows_of(input.source.unrotated(), index, previous_tokens()).to(device(), dtype);
  CacheRows own;
  if (fuses()) {
    if (input.own == nullptr || input.own->shape() != target_shape_) {
      throw Error({.code = ExitCode::kInput,
                   .where = cat("projector ", kind()),
                   .what = "needs the target's own cache",
                   .got = input.own == nullptr ? "none" : input.own->shape().describe(),
                   .expected = target_shape_.describe()});
    }
    own = rows_of(input.own->unrotated()).to(device(), dtype);
  }
  const CacheRows target = translate_rows(source, fuses() ? &own : nullptr, input.draw);
  const KvCache cache = cache_of(target.to(where, dtype), positions, mask);
  return input.rope ? cache.rotated_to(*input.rope, positions) : cache;
}

NamedTensors Projector::state() const {
  NamedTensors all = parameters();
  const NamedTensors fixed = buffers();
  all.insert(all.end(), fixed.begin(), fixed.end());
  return all;
}

void Projector::load_state(const std::map<std::string, at::Tensor>& tensors,
                           const std::string& where) {
  const NamedTensors mine = state();
  for (const auto& [name, tensor] : mine) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      throw Error({.code = ExitCode::kInput,
                   .where = where,
                   .what = cat("tensor ", name, " is missing"),
                   .expected = cat("shape ", sizes(tensor)),
                   .remedy = "the file belongs to another projector"});
    }
    if (found->second.sizes() != tensor.sizes()) {
      throw Error({.code = ExitCode::kInput,
                   .where = cat(where, ": tensor ", name),
                   .what = "wrong shape",
                   .got = sizes(found->second),
                   .expected = sizes(tensor),
                   .remedy = "the file belongs to another projector"});
    }
  }
  for (const auto& [name, unused] : tensors) {
    bool known = false;
    for (const auto& entry : mine) known = known || entry.first == name;
    if (!known) {
      throw Error({.code = ExitCode::kInput,
                   .where = where,
                   .what = cat("unknown tensor ", printable(name)),
                   .remedy = "the file belongs to another projector"});
    }
  }
  const c10::NoGradGuard no_grad;
  for (const auto& [name, tensor] : mine) tensor.copy_(tensors.at(name));
}

nlohmann::json Projector::config() const {
  return {{"kind", kind()}, {"source", to_json(source_shape_)}, {"target", to_json(target_shape_)}};
}

int64_t Projector::parameter_count() const {
  int64_t count = 0;
  for (const auto& [name, tensor] : parameters()) count += tensor.numel();
  return count;
}

}  // namespace kvlingua
