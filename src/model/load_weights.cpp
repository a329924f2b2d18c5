// Files -> weights: mapped, checked, converted and where asked quantised in one pass; pages go as
// soon as they were copied, so that a load needs little memory beside the weights themselves.
#include "load_weights.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "causal_lm_impl.h"
#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

constexpr int64_t kChunk =
    int64_t{1} << 18;  // elements converted and checked together while they are in the cache

constexpr size_t kAhead = 128;  // such pieces asked of the disk before they are needed

// A sum is finite only if all its terms are; only when it is not, each is looked at.
bool all_finite(const at::Tensor& chunk) {
  return std::isfinite(chunk.sum(at::kFloat).item<float>()) || chunk.isfinite().all().item<bool>();
}

// A run of elements of one tensor, and where they go in host memory: floats, or codes and scales.
struct Piece {
  std::shared_ptr<const StoredTensor> from;
  at::Tensor into;  // flat floats; undefined for codes
  const QuantizedPart* part = nullptr;
  int64_t begin = 0, n = 0;

  std::span<const std::byte> bytes() const { return from->bytes(begin, n); }
  bool put() const;  // false: something is not finite
};

bool Piece::put() const {
  if (part == nullptr) {
    at::Tensor(into).copy_(from->elements(begin, n));
    return all_finite(into);
  }
  const at::Tensor values = from->elements(begin, n).to(at::kFloat);
  if (!all_finite(values)) return false;
  if (part->format == WeightFormat::kNf4) {
    const int64_t block = part->scales.block;
    nf4_quantize(values, part->codes.narrow(0, begin / 2, (n + 1) / 2),
                 part->scales.absmax.narrow(0, begin / block, (n + block - 1) / block), block);
  } else {
    const int64_t row = begin / part->columns, rows = n / part->columns;
    int8_quantize(values.view({rows, part->columns}), part->codes.narrow(0, row, rows),
                  part->scales.absmax.narrow(0, row, rows));
  }
  return true;
}

[[noreturn]] void refuse_value(const Piece& piece) {
  const at::Tensor source = piece.from->elements(piece.begin, piece.n);
  const bool overflow = all_finite(source);
  const at::ScalarType into = piece.into.defined() ? piece.into.scalar_type() : at::kFloat;
  const at::Tensor bad = (overflow ? source.to(into) : source).isfinite().logical_not();
  const int64_t in_piece = bad.to(at::kByte).argmax().item<int64_t>();
  const auto& shape = piece.from->shape();
  std::vector<int64_t> index(shape.size());
  int64_t rest = piece.begin + in_piece;
  for (size_t d = shape.size(); d-- > 0;) index[d] = rest % shape[d], rest /= shape[d];
  const double value = source[in_piece].item<double>();
  if (overflow) {
    piece.from->refuse(cat("does not fit ", at::toString(into), " at ", describe_shape(index)),
                       cat(value), "at most 65504", "compute in bfloat16 or float32");
  }
  piece.from->refuse(cat("not a number at ", describe_shape(index)), cat(value), "finite weights",
                     "download the model again");
}

void add_pieces(std::shared_ptr<const StoredTensor> from, const at::Tensor& into,
                std::vector<Piece>& pieces) {
  const at::Tensor flat = into.view({-1});
  for (int64_t begin = 0; begin < flat.numel(); begin += kChunk) {
    const int64_t n = std::min(kChunk, flat.numel() - begin);
    pieces.push_back({from, flat.narrow(0, begin, n), nullptr, begin, n});
  }
}

// Host memory for what goes on to the device; a streamed model's is pinned, and so used again layer
// after layer.
at::TensorOptions staging(const LoadOptions& options, at::ScalarType type) {
  return at::TensorOptions().dtype(type).pinned_memory(options.layer_streaming &&
                                                       options.device.is_cuda());
}

// Memory for codes and scales, and the pieces that fill it.
void add_quantizing(std::shared_ptr<const StoredTensor> from, const LoadOptions& options,
                    QuantizedPart& part, std::vector<Piece>& pieces) {
  const auto room = [&](at::IntArrayRef size, at::ScalarType type) {
    return at::empty(size, staging(options, type));
  };
  const int64_t total = part.rows * part.columns;
  int64_t chunk = kChunk;
  part.scales = {};  // a streamed layer's are still those of the layer before, maybe nested
  if (part.format == WeightFormat::kNf4) {
    part.codes = room({(total + 1) / 2}, at::kByte);
    part.scales.absmax = room({(total + kNf4Block - 1) / kNf4Block}, at::kFloat);
  } else {
    part.codes = room({part.rows, part.columns}, at::kChar);
    part.scales.absmax = room({part.rows}, at::kFloat);
    chunk = std::max<int64_t>(1, kChunk / part.columns) * part.columns;
  }
  for (int64_t begin = 0; begin < total; begin += chunk)
    pieces.push_back({from, {}, &part, begin, std::min(chunk, total - begin)});
}

// Converts and checks them in the files' order. The next megabytes are asked for ahead, so that the
// disk works while weights are converted, and what was converted goes. Threads take one piece after
// the other, so that none waits for another's page faults.
void copy_checked(std::vector<Piece> pieces) {
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    return a.bytes().data() < b.bytes().data();
  });
  const auto ask = [&](size_t k) {
    if (k < pieces.size()) pieces[k].from->advise(FileAccess::kWillNeed, pieces[k].bytes());
  };
  for (size_t k = 0; k < kAhead; ++k) ask(k);
  std::atomic<size_t> next = 0, bad = pieces.size();
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t first, int64_t last) {
    const at::NoGradGuard no_grad;  // a worker thread has its own mode
    for (int64_t worker = first; worker < last; ++worker) {
      for (size_t k; (k = next.fetch_add(1)) < pieces.size();) {
        const Piece& piece = pieces[k];
        ask(k + kAhead);
        const bool good = piece.put();
        piece.from->advise(FileAccess::kDontNeed, piece.bytes());
        if (good) continue;
        size_t known = bad.load();
        while (k < known && !bad.compare_exchange_weak(known, k)) {
        }
      }
    }
  });
  if (const size_t k = bad.load(); k < pieces.size()) refuse_value(pieces[k]);
}

std::shared_ptr<const StoredTensor> floats_of(const StoredWeights& stored,
                                              const std::string& name) {
  return std::make_shared<const StoredTensor>(stored.floats(name));
}

[[noreturn]] void refuse_formats(const std::string& name, WeightFormat saved, WeightFormat asked) {
  throw Error({.code = ExitCode::kInput,
               .where = cat("tensor ", name),
               .what = "saved in another format than asked for",
               .got = std::string(to_string(saved)),
               .expected = std::string(to_string(asked)),
               .remedy = "use weights: auto, or the model that this one was quantised from"});
}

// A dense tensor's pieces, or at once what has to go through codes.
void add_dense(const StoredWeights& stored, const std::string& name, const at::Tensor& into,
               std::vector<Piece>& pieces) {
  if (stored.format(name) == WeightFormat::kDense) {
    add_pieces(floats_of(stored, name), into, pieces);
    return;
  }
  const QuantizedPart part = stored.codes(name, into.size(0), into.size(1));
  part.dequantize(into);
}

// The first half of a quantised matrix: saved codes are here after it, others once the pieces are.
void begin_part(const StoredWeights& stored, const std::string& name, const LoadOptions& options,
                QuantizedPart& part, std::vector<Piece>& pieces) {
  const WeightFormat saved = stored.format(name);
  const std::optional<WeightFormat> asked = options.weights.format;
  if (saved != WeightFormat::kDense) {
    if (asked && *asked != saved) refuse_formats(name, saved, *asked);
    part = stored.codes(name, part.rows, part.columns);
  } else if (!asked) {  // a module that its quantisation left alone
    part.format = WeightFormat::kDense;
    part.codes = at::empty({part.rows, part.columns}, staging(options, options.dtype));
    add_pieces(floats_of(stored, name), part.codes, pieces);
  } else {
    part.format = *asked;
    add_quantizing(floats_of(stored, name), options, part, pieces);
  }
}

void finish_part(const LoadOptions& options, QuantizedPart& part) {
  const bool to_nest = part.format == WeightFormat::kNf4 && options.weights.format &&
                       options.weights.double_quantization && !part.scales.nested() &&
                       part.scales.absmax.scalar_type() == at::kFloat;
  if (to_nest) part.scales = nf4_quantize_scales(part.scales.absmax, part.scales.block);
  if (options.device.is_cpu()) return;
  part.codes = part.codes.to(options.device);
  part.scales = part.scales.to(options.device);
}

}  // namespace

void load_tensor(const StoredWeights& stored, const std::string& name, const at::Tensor& into,
                 bool pinned) {
  const at::NoGradGuard no_grad;
  const at::Tensor host =
      into.is_cpu()
          ? into
          : at::empty(into.sizes(), into.options().device(at::kCPU).pinned_memory(pinned));
  std::vector<Piece> pieces;
  add_dense(stored, name, host, pieces);
  copy_checked(std::move(pieces));
  if (!into.is_cpu()) into.copy_(host);
  stored.done_with(name);
}

void load_part(const StoredWeights& stored, const std::string& name, const LoadOptions& options,
               QuantizedPart& part) {
  const at::NoGradGuard no_grad;
  std::vector<Piece> pieces;
  begin_part(stored, name, options, part, pieces);
  copy_checked(std::move(pieces));
  finish_part(options, part);
  stored.done_with(name);
}

WeightFormat held_format(const ModelConfig& config, const LoadOptions& options) {
  return options.weights.format.value_or(config.stored);
}

std::string held_fingerprint(const StoredWeights& stored, const ModelConfig& config,
                             const LoadOptions& options) {
  // Codes that were saved are the file's own; those made here, and floats made of saved codes, are
  // not what the files alone would be.
  const WeightFormat held = held_format(config, options);
  if (held == config.stored) return stored.fingerprint();
  const std::string prefix = held == WeightFormat::kDense
                                 ? std::string("dense-")
                                 : format_prefix(held, options.weights.double_quantization);
  return prefix + stored.fingerprint();
}

void load_weights(const StoredWeights& stored, const LoadOptions& options, const Weights& weights) {
  const at::NoGradGuard no_grad;
  std::vector<Piece> pieces;
  for (const auto& [name, tensor] : weights.named) {
    if (tensor.is_cpu()) {
      add_dense(stored, name, tensor, pieces);
    } else {
      load_tensor(stored, name, tensor);
    }
  }
  if (!options.device.is_cpu()) {
    for (const auto& [name, part] : weights.parts) load_part(stored, name, options, *part);
  } else {
    for (const auto& [name, part] : weights.parts) begin_part(stored, name, options, *part, pieces);
  }
  copy_checked(std::move(pieces));
  if (options.device.is_cpu()) {
    for (const auto& [name, part] : weights.parts) finish_part(options, *part);
  }
}

}  // namespace kvlingua
