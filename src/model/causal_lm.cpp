#include "kvlingua/model/causal_lm.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "causal_lm_impl.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/kernels/dense.h"
#include "kvlingua/kernels/rms_norm.h"
#include "load_weights.h"

namespace kvlingua {
namespace {

// [N, 2] of (row, token) as one flat index into [B * T].
at::Tensor flat_positions(const at::Tensor& wanted, const PreparedBatch& batch, at::Device device) {
  if (!wanted.defined() || wanted.dim() != 2 || wanted.size(1) != 2 ||
      wanted.scalar_type() != at::kLong) {
    throw Error({.code = ExitCode::kInput,
                 .where = "logit_positions",
                 .what = "wrong shape",
                 .got = wanted.defined() ? cat(wanted.sizes()) : "no tensor",
                 .expected = "int64 [N, 2] of (row, token)"});
  }
  if (wanted.is_cpu() && wanted.numel() > 0) {
    const at::Tensor size = at::tensor({batch.rows, batch.tokens});
    if (at::logical_or(wanted < 0, wanted >= size).any().item<bool>()) {
      throw Error({.code = ExitCode::kInput,
                   .where = "logit_positions",
                   .what = "outside the batch",
                   .got = cat("row up to ", wanted.select(1, 0).max().item<int64_t>(),
                              ", token up to ", wanted.select(1, 1).max().item<int64_t>()),
                   .expected = cat("within ", batch.rows, " rows of ", batch.tokens, " tokens")});
    }
  }
  return (wanted.select(1, 0) * batch.tokens + wanted.select(1, 1)).to(device);
}

at::Tensor stacked(const std::vector<at::Tensor>& layers, bool wanted) {
  return wanted ? at::stack(layers) : at::Tensor();
}

Captured capture_of(const PrefillOptions& options) {
  return {options.want_queries, options.want_attention_outputs, options.want_hidden, {}, {}, {}};
}

[[noreturn]] void refuse_streamed(const char* what) {
  throw Error({.code = ExitCode::kUsage,
               .where = "layer_streaming",
               .what = cat("a streamed model has no ", what),
               .expected = "reading alone: prefill and decoding",
               .remedy = "load it without layer streaming"});
}

}  // namespace

void check_past(const KvCache& past, const ModelConfig& config) {
  const auto refuse = [](std::string what, std::string got, std::string expected,
                         std::string remedy = {}) {
    throw Error({.code = ExitCode::kInput,
                 .where = "injected cache",
                 .what = std::move(what),
                 .got = std::move(got),
                 .expected = std::move(expected),
                 .remedy = std::move(remedy)});
  };
  if (past.shape() != config.kv_shape()) {
    refuse("does not fit the model", past.shape().describe(), config.kv_shape().describe());
  }
  if (!past.rope())
    refuse("keys are not rotated", "no rotation", to_string(config.rope.type),
           "call rotated_to(model.rope(), positions)");
  if (*past.rope() != config.rope) {
    refuse("keys carry another model's rotation",
           cat(to_string(past.rope()->type), ", theta ", past.rope()->theta),
           cat(to_string(config.rope.type), ", theta ", config.rope.theta),
           "call rotated_to(model.rope(), positions)");
  }
}

namespace {

void check_given(const KvCache& given, const PreparedBatch& batch, const ModelConfig& config) {
  check_past(given, config);
  if (given.batch() == batch.rows && given.tokens() == batch.tokens) return;
  throw Error({.code = ExitCode::kInput,
               .where = "given keys and values",
               .what = "are not of the new tokens",
               .got = cat(given.batch(), " x ", given.tokens()),
               .expected = cat(batch.rows, " x ", batch.tokens)});
}

}  // namespace

void check_device(at::Device device) {
  if (device.is_cpu()) return;
  if (!device.is_cuda()) {
    throw Error({.code = ExitCode::kDevice,
                 .where = "device",
                 .what = "unsupported",
                 .got = device.str(),
                 .expected = "cpu or cuda"});
  }
  const auto count = static_cast<int64_t>(at::getNumGPUs());
  if (count == 0 || (device.has_index() && device.index() >= count)) {
    throw Error({.code = ExitCode::kDevice,
                 .where = "device",
                 .what = "CUDA was asked for and is not there",
                 .got = cat(count, count == 1 ? " CUDA device" : " CUDA devices"),
                 .expected = device.str(),
                 .remedy = "use --device cpu, or check the driver with nvidia-smi"});
  }
}

// ---- making one ----

namespace {

// One stream a tensor, drawn on the CPU: the same weights on every device and in any order.
const at::Tensor& draw(const at::Tensor& into, const std::string& name, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(mix(seed, hash_name(name)));
  into.normal_(0.0, 0.02, generator);
  return into;
}

void random_parts(const NamedParts& parts, const LoadOptions& options, uint64_t seed) {
  const auto count = static_cast<int64_t>(parts.size());
  at::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
    const at::NoGradGuard no_grad;
    for (int64_t i = first; i < last; ++i) {
      const auto& [name, part] = parts[static_cast<size_t>(i)];
      quantize(draw(at::empty({part->rows, part->columns}, at::kFloat), name, seed),
               options.weights, *part);
    }
  });
  for (const auto& [name, part] : parts) part->to(options.device);
}

}  // namespace

CausalLM::CausalLM(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CausalLM::CausalLM(CausalLM&&) noexcept = default;
CausalLM& CausalLM::operator=(CausalLM&&) noexcept = default;
CausalLM::~CausalLM() = default;

CausalLM CausalLM::load(const std::filesystem::path& directory, const LoadOptions& options) {
  check_device(options.device);
  auto impl = std::make_unique<Impl>();
  impl->config = ModelConfig::from_directory(directory);
  check_config(impl->config,
               is_gguf_path(directory) ? directory.string() : (directory / "config.json").string());
  impl->device = options.device;
  impl->dtype = options.dtype;
  impl->format = held_format(impl->config, options);
  const WeightLayout layout{options.device, options.dtype, impl->format,
                            std::make_shared<Scratch>()};
  StoredWeights stored(directory, impl->config);
  impl->weights = Weights::allocate(impl->config, layout, !options.layer_streaming);
  load_weights(stored, options, impl->weights);
  impl->fingerprint = held_fingerprint(stored, impl->config, options);
  if (options.layer_streaming) {
    impl->stream =
        std::make_unique<LayerStream>(std::move(stored), impl->config, options, layout.scratch);
  }
  return CausalLM(std::move(impl));
}

CausalLM CausalLM::random(const ModelConfig& config, const LoadOptions& options, uint64_t seed) {
  check_device(options.device);
  check_config(config, "config");
  auto impl = std::make_unique<Impl>();
  impl->config = config;
  impl->device = options.device;
  impl->dtype = options.dtype;
  impl->format = options.weights.format.value_or(WeightFormat::kDense);
  impl->weights = Weights::allocate(
      config, {options.device, options.dtype, impl->format, std::make_shared<Scratch>()});
  impl->fingerprint = cat(format_prefix(impl->format, options.weights.double_quantization),
                          sha256_hex(cat("random ", seed, ' ', config.to_json())));
  const at::NoGradGuard no_grad;
  random_parts(impl->weights.parts, options, seed);
  for (const auto& [name, tensor] : impl->weights.named) {
    if (tensor.dim() == 1 && name.ends_with(".weight")) {
      tensor.fill_(1.0);  // norms
      continue;
    }
    if (tensor.is_cpu() && tensor.scalar_type() == at::kFloat) {
      draw(tensor, name, seed);
    } else {
      tensor.copy_(draw(at::empty(tensor.sizes(), at::kFloat), name, seed));
    }
  }
  return CausalLM(std::move(impl));
}

// ---- what it is ----

const ModelConfig& CausalLM::config() const { return impl_->config; }
KvShape CausalLM::kv_shape() const { return impl_->config.kv_shape(); }
RopeSpec CausalLM::rope() const { return impl_->config.rope; }
at::Device CausalLM::device() const { return impl_->device; }
at::ScalarType CausalLM::dtype() const { return impl_->dtype; }
int64_t CausalLM::weight_bytes() const { return impl_->weights.bytes(); }
const std::string& CausalLM::fingerprint() const { return impl_->fingerprint; }
at::Tensor CausalLM::head(const at::Tensor& head_input) const { return impl_->logits(head_input); }

HeadLosses CausalLM::head_losses(const at::Tensor& head_input, const HeadTargets& targets) const {
  const auto normed = [&](const at::Tensor& rows) {
    return rms_norm(rows, impl_->weights.norm, impl_->config.rms_norm_eps);
  };
  HeadLoss what{.weight_VC = impl_->weights.head.detach(),
                .answers_N = targets.answers_N,
                .weights_N = targets.weights_N,
                .temperature = targets.temperature};
  if (targets.teacher_NC.defined()) {
    const at::NoGradGuard no_grad;
    what.teacher_NC = normed(targets.teacher_NC);
  }
  return head_loss(normed(head_input), what);
}
bool CausalLM::streams_layers() const { return impl_->stream != nullptr; }
WeightFormat CausalLM::weight_format() const { return impl_->format; }
std::vector<std::pair<std::string, at::Tensor>> CausalLM::parameters() const {
  if (impl_->stream) refuse_streamed("parameters");
  if (impl_->format != WeightFormat::kDense) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "weights",
                 .what = "a quantised model has no parameters to train or save",
                 .got = std::string(to_string(impl_->format)),
                 .expected = "dense weights",
                 .remedy = "load it with weights: dense"});
  }
  return impl_->weights.named;
}

// ---- running it ----

FrozenModel CausalLM::Impl::frozen_model() const {
  return {config, weights.embedding, [this](int64_t i) -> const LayerWeights& {
            return stream ? stream->layer(i) : weights.layers[static_cast<size_t>(i)];
          }};
}

at::Tensor CausalLM::Impl::logits(const at::Tensor& hidden) const {
  return dense(rms_norm(hidden, weights.norm, config.rms_norm_eps), weights.head).to(at::kFloat);
}

PrefillResult CausalLM::prefill(const TokenBatch& batch, const KvCache* past,
                                const PrefillOptions& options) const {
  KvCache before;
  PastFrame frame;
  if (past != nullptr && !past->empty()) {
    check_past(*past, impl_->config);
    before = past->to(impl_->device, impl_->dtype);
    frame = {before.tokens(), before.positions(), before.mask()};
  }
  PreparedBatch prepared = prepare_batch(batch, frame, impl_->config, impl_->device, impl_->dtype);
  if (options.given != nullptr) {
    check_given(*options.given, prepared, impl_->config);
    if (impl_->stream) refuse_streamed("given keys and values");
    prepared.frame.given = true;
    const KvCache seen = KvCache::concat(before, options.given->to(impl_->device, impl_->dtype));
    return impl_->differentiable(prepared, &seen, options);
  }
  const bool gradient =
      at::GradMode::is_enabled() &&
      ((frame.tokens > 0 && (before.keys().requires_grad() || before.values().requires_grad())) ||
       impl_->weights.any_requires_grad());
  if (gradient && impl_->stream) refuse_streamed("gradients");
  const KvCache* joined = frame.tokens > 0 ? &before : nullptr;
  return gradient ? impl_->differentiable(prepared, joined, options)
                  : impl_->frozen(prepared, joined, options);
}

PrefillResult CausalLM::Impl::frozen(const PreparedBatch& batch, const KvCache* past,
                                     const PrefillOptions& options) const {
  const at::NoGradGuard no_grad;
  const auto floats = at::TensorOptions().device(device).dtype(dtype);
  const auto room = [&](int64_t layers, int64_t tokens) {
    return at::empty({layers, batch.rows, config.num_kv_heads, tokens, config.head_dim}, floats);
  };
  // Without a past a layer writes into the result itself; with one, into a buffer that holds past
  // and new side by side.
  at::Tensor keys, values, joint_keys, joint_values;
  const int64_t before = past != nullptr ? past->tokens() : 0;
  const bool keep = options.want_cache;
  if (keep || past == nullptr)
    keys = room(keep ? config.num_layers : 1, batch.tokens), values = at::empty_like(keys);
  if (past != nullptr)
    joint_keys = room(1, before + batch.tokens)[0], joint_values = at::empty_like(joint_keys);
  const auto joint = [&](int64_t layer) -> JointKv {
    if (past == nullptr) return {keys[keep ? layer : 0], values[keep ? layer : 0]};
    joint_keys.narrow(2, 0, before).copy_(past->keys()[layer]);
    joint_values.narrow(2, 0, before).copy_(past->values()[layer]);
    return {joint_keys, joint_values};
  };
  const auto done = [&](int64_t layer) {
    if (past == nullptr || !keep) return;
    keys[layer].copy_(joint_keys.narrow(2, before, batch.tokens));
    values[layer].copy_(joint_values.narrow(2, before, batch.tokens));
  };

  Captured captured = capture_of(options);
  const Rows rows = options.logits == LogitsAt::kNone   ? Rows::kNone
                    : options.logits == LogitsAt::kLast ? Rows::kLast
                                                        : Rows::kAll;
  const at::Tensor hidden = run_frozen(frozen_model(), batch, rows, joint, done, captured);

  PrefillResult result;
  if (keep) result.cache = KvCache(keys, values, batch.positions_BT, config.rope, batch.mask_BT);
  finish(hidden, batch, options, result);
  result.queries = stacked(captured.query_layers, captured.queries);
  result.attention_outputs = stacked(captured.attention_layers, captured.attention_outputs);
  result.hidden = stacked(captured.hidden_layers, captured.hidden);
  return result;
}

void CausalLM::Impl::finish(const at::Tensor& hidden, const PreparedBatch& batch,
                            const PrefillOptions& options, PrefillResult& result) const {
  if (options.logits == LogitsAt::kNone) return;
  const at::Tensor rows = rows_at(hidden, batch, options);
  if (options.head_input_only)
    result.head_input = rows;
  else
    result.logits = logits(rows);
}

// `hidden`: [B, T, hidden], or of each row's last token alone where no other was computed.
at::Tensor CausalLM::Impl::rows_at(const at::Tensor& hidden, const PreparedBatch& batch,
                                   const PrefillOptions& options) const {
  if (options.logits == LogitsAt::kAll) return hidden;
  const at::Tensor flat = hidden.reshape({-1, hidden.size(-1)});
  if (options.logits == LogitsAt::kPositions)
    return flat.index_select(0, flat_positions(options.logit_positions, batch, device));
  if (flat.size(0) == batch.rows) return flat;
  return flat.index_select(
      0, at::arange(batch.rows, batch.last_B.options()) * batch.tokens + batch.last_B);
}

PrefillResult CausalLM::Impl::differentiable(const PreparedBatch& batch, const KvCache* past,
                                             const PrefillOptions& options) const {
  const auto layer_function =
      options.checkpoint_activations ? checkpointed_layer : differentiable_layer;
  Captured captured = capture_of(options);
  std::vector<at::Tensor> keys, values;
  // One node hands all layers' gradients back at once; a select a layer would fill and add the
  // whole cache each time.
  const auto by_layer = [&](const at::Tensor& all) { return all.unbind(0); };
  const auto none = std::vector<at::Tensor>(static_cast<size_t>(config.num_layers));
  const std::vector<at::Tensor> past_keys = past != nullptr ? by_layer(past->keys()) : none,
                                past_values = past != nullptr ? by_layer(past->values()) : none;
  at::Tensor hidden = at::embedding(weights.embedding, batch.ids_BT);
  if (captured.hidden) captured.hidden_layers.push_back(hidden);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const auto layer = static_cast<size_t>(i);
    const LayerOutput out = layer_function(config, weights.layers[layer], batch.frame, hidden,
                                           past_keys[layer], past_values[layer]);
    hidden = out.hidden;
    if (options.want_cache) keys.push_back(out.keys), values.push_back(out.values);
    if (captured.queries) captured.query_layers.push_back(out.queries);
    if (captured.attention_outputs) captured.attention_layers.push_back(out.attended);
    if (captured.hidden) captured.hidden_layers.push_back(hidden);
  }
  PrefillResult result;
  if (options.want_cache)
    result.cache =
        KvCache(at::stack(keys), at::stack(values), batch.positions_BT, config.rope, batch.mask_BT);
  finish(hidden, batch, options, result);
  result.queries = stacked(captured.query_layers, captured.queries);
  result.attention_outputs = stacked(captured.attention_layers, captured.attention_outputs);
  result.hidden = stacked(captured.hidden_layers, captured.hidden);
  return result;
}

}  // namespace kvlingua
