#include "datasets/pair_prefill.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>

#include "datasets/pair_shard_names.h"
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

TakenRows take_rows(const PrefillResult& result, int64_t prefix_tokens,
                    const std::vector<SampleRecord>& samples, Side side, StorageType storage,
                    bool measure) {
  const KvCache& cache = result.cache;
  std::vector<int64_t> flat;
  for (size_t b = 0; b < samples.size(); ++b) {
    for (int32_t token : of(samples[b], side).row_token)
      flat.push_back(static_cast<int64_t>(b) * cache.tokens() + prefix_tokens + token);
  }
  const at::Tensor index = at::tensor(flat, at::TensorOptions().dtype(at::kLong));
  RopeTables tables;
  if (cache.rope()) {
    const at::Tensor positions =
        cache.positions().reshape({-1}).index_select(0, index.to(cache.positions().device()));
    tables = unrotation_tables(*cache.rope(), positions);
  }
  // One rounding only, to what is stored; int8 is rounded by its scales, and its error is measured
  // against float32.
  const auto type = [&](StorageType stored) {
    return stored == StorageType::kInt8 || measure ? at::kFloat : storage_scalar_type(stored);
  };
  TakenRows taken;
  const at::Tensor keys = cache_rows(cache.keys(), index, tables.cos, tables.sin, type(storage));
  const at::Tensor values = cache_rows(cache.values(), index, {}, {}, type(storage));
  taken.rows.keys = encode_rows(keys, storage, &taken.rows.key_scales);
  taken.rows.values = encode_rows(values, storage, &taken.rows.value_scales);
  if (measure) {
    taken.key_error = storage_error(keys, taken.rows.keys, taken.rows.key_scales);
    taken.value_error = storage_error(values, taken.rows.values, taken.rows.value_scales);
  }
  const at::ScalarType beside = storage_scalar_type(query_storage(storage));
  if (result.queries.defined())
    taken.queries = cache_rows(result.queries, index, tables.cos, tables.sin, beside);
  if (result.attention_outputs.defined())
    taken.attention_outputs = cache_rows(result.attention_outputs, index, {}, {}, beside);
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
