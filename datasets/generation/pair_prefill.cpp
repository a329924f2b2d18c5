#include "datasets/generation/pair_prefill.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>

#include "datasets/pairs/pair_shard_names.h"
#include "kvlingua/kernels/cache_rows.h"

namespace kvlingua {
namespace {

const SampleSide& of(const SampleRecord& sample, Side side) {
  return side == Side::kSource ? sample.source : sample.target;
}

}  // namespace

PrefillResult prefill_spans(const CausalLM& model, const std::vector<int64_t>& prefix,
                            const std::vector<SampleRecord>& samples, Side side,
                            const CaptureOptions& capture) {
  std::vector<std::vector<int64_t>> rows;
  for (const SampleRecord& sample : samples) {
    rows.push_back(prefix);
    rows.back().insert(rows.back().end(), of(sample, side).ids.begin(), of(sample, side).ids.end());
  }
  PrefillOptions options;
  options.want_queries = capture.queries;
  options.want_attention_outputs = capture.attention_outputs;
  return model.prefill(TokenBatch::from_rows(rows), nullptr, options);
}

RowTaker::RowTaker(const PrefillResult& result, int64_t prefix_tokens,
                   const std::vector<SampleRecord>& samples, Side side, StorageType storage)
    : result_(result), storage_(storage) {
  const KvCache& cache = result.cache;
  std::vector<int64_t> flat;
  for (size_t b = 0; b < samples.size(); ++b) {
    for (int32_t token : of(samples[b], side).row_token)
      flat.push_back(static_cast<int64_t>(b) * cache.tokens() + prefix_tokens + token);
  }
  index_ = at::tensor(flat, at::TensorOptions().dtype(at::kLong));
  if (!cache.rope()) return;
  const at::Tensor positions =
      cache.positions().reshape({-1}).index_select(0, index_.to(cache.positions().device()));
  const RopeTables tables = unrotation_tables(*cache.rope(), positions);
  cos_ = tables.cos;
  sin_ = tables.sin;
}

int64_t RowTaker::row_bytes() const {
  const at::Tensor& keys = result_.cache.keys();
  return keys.size(0) * keys.size(2) * keys.size(4) *
         static_cast<int64_t>(c10::elementSize(storage_scalar_type(storage_)));
}

TakenRows RowTaker::take(int64_t begin, int64_t end, bool measure) const {
  const auto part = [&](const at::Tensor& t) {
    return t.defined() ? t.narrow(0, begin, end - begin) : at::Tensor();
  };
  const at::Tensor index = part(index_), cos = part(cos_), sin = part(sin_);
  // One rounding only, to what is stored; int8 is rounded by its scales, and its error is measured
  // against float32.
  const auto type =
      storage_ == StorageType::kInt8 || measure ? at::kFloat : storage_scalar_type(storage_);
  TakenRows taken;
  const at::Tensor keys = cache_rows(result_.cache.keys(), index, cos, sin, type);
  const at::Tensor values = cache_rows(result_.cache.values(), index, {}, {}, type);
  taken.rows.keys = encode_rows(keys, storage_, &taken.rows.key_scales);
  taken.rows.values = encode_rows(values, storage_, &taken.rows.value_scales);
  if (measure) {
    taken.key_error = storage_error(keys, taken.rows.keys, taken.rows.key_scales);
    taken.value_error = storage_error(values, taken.rows.values, taken.rows.value_scales);
  }
  const at::ScalarType beside = storage_scalar_type(query_storage(storage_));
  if (result_.queries.defined())
    taken.queries = cache_rows(result_.queries, index, cos, sin, beside);
  if (result_.attention_outputs.defined())
    taken.attention_outputs = cache_rows(result_.attention_outputs, index, {}, {}, beside);
  return taken;
}

struct HostStaging::Impl {
  at::Device device;
  std::optional<c10::Stream> stream;
};

HostStaging::HostStaging(at::Device device)
    : impl_(std::make_unique<Impl>(Impl{device, std::nullopt})) {
  if (!device.is_cpu())
    impl_->stream =
        c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, false);
}

HostStaging::~HostStaging() = default;

bool HostStaging::needed() const { return impl_->stream.has_value(); }

std::function<void()> HostStaging::start(TakenRows& taken) {
  if (!needed()) return [] {};
  const c10::impl::VirtualGuardImpl guard(impl_->device.type());
  c10::Event computed(impl_->device.type());
  computed.record(guard.getStream(impl_->device));
  computed.block(*impl_->stream);
  const c10::StreamGuard on(*impl_->stream);
  for (at::Tensor* t : {&taken.rows.keys, &taken.rows.values, &taken.rows.key_scales,
                        &taken.rows.value_scales, &taken.queries, &taken.attention_outputs}) {
    if (!t->defined()) continue;
    at::Tensor host = at::empty(t->sizes(), t->options().device(at::kCPU).pinned_memory(true));
    host.copy_(*t, /*non_blocking=*/true);
    guard.recordDataPtrOnStream(t->storage().data_ptr(), *impl_->stream);
    *t = std::move(host);
  }
  auto copied = std::make_shared<c10::Event>(impl_->device.type());
  copied->record(*impl_->stream);
  return [copied] { copied->synchronize(); };
}

}  // namespace kvlingua
