// Safetensors -> weights: mapped, checked and converted in one pass; pages go as soon as they were
// copied, so that a load needs little memory beside the weights themselves.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <set>

#include "causal_lm_impl.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/safetensors.h"
#include "kvlingua/io/sha256.h"
#include "layer_stream.h"

namespace kvlingua {
namespace {

constexpr int64_t kChunk =
    int64_t{1} << 18;  // elements converted and checked together while they are in the cache

constexpr size_t kAhead = 128;  // such pieces asked of the disk before they are needed

[[noreturn]] void refuse(const SafetensorsFile& file, std::string_view name, std::string what,
                         std::string got, std::string expected, std::string remedy) {
  throw Error({.code = ExitCode::kInput,
               .where = cat(file.where(), ": tensor ", printable(name)),
               .what = std::move(what),
               .got = std::move(got),
               .expected = std::move(expected),
               .remedy = std::move(remedy)});
}

at::ScalarType scalar_type(const SafetensorsFile& file, std::string_view name,
                           SafetensorsDtype dtype) {
  switch (dtype) {
    case SafetensorsDtype::kF64:
      return at::kDouble;
    case SafetensorsDtype::kF32:
      return at::kFloat;
    case SafetensorsDtype::kBF16:
      return at::kBFloat16;
    case SafetensorsDtype::kF16:
      return at::kHalf;
    default:
      refuse(file, name, "weights of an unsupported type", std::string(to_string(dtype)),
             "F32, BF16, F16 or F64", "use the model's unquantised weights");
  }
}

// Elements [begin, begin + n) of a mapped tensor. The mapping need not be aligned to the element, a
// tensor must be.
at::Tensor mapped(const SafetensorsView& view, at::ScalarType type, int64_t begin, int64_t n) {
  const size_t size = at::elementSize(type);
  const std::byte* data = view.data.data() + static_cast<size_t>(begin) * size;
  if (reinterpret_cast<uintptr_t>(data) % size == 0) {
    return at::from_blob(const_cast<std::byte*>(data), {n}, at::TensorOptions().dtype(type));
  }
  at::Tensor copy = at::empty({n}, at::TensorOptions().dtype(type));
  std::memcpy(copy.mutable_data_ptr(), data, static_cast<size_t>(n) * size);
  return copy;
}

// A sum is finite only if all its terms are; only when it is not, each is looked at.
bool all_finite(const at::Tensor& chunk) {
  return std::isfinite(chunk.sum(at::kFloat).item<float>()) || chunk.isfinite().all().item<bool>();
}

[[noreturn]] void refuse_value(const SafetensorsFile& file, std::string_view name,
                               const SafetensorsView& view, at::ScalarType type,
                               at::ScalarType into, int64_t begin, int64_t n) {
  const at::Tensor source = mapped(view, type, begin, n);
  const bool overflow = all_finite(source);
  const at::Tensor bad = (overflow ? source.to(into) : source).isfinite().logical_not();
  const int64_t at_index = begin + bad.to(at::kByte).argmax().item<int64_t>();
  std::vector<int64_t> index(view.shape.size());
  int64_t rest = at_index;
  for (size_t d = view.shape.size(); d-- > 0;)
    index[d] = rest % view.shape[d], rest /= view.shape[d];
  const double value = mapped(view, type, at_index, 1).item<double>();
  if (overflow) {
    refuse(file, name, cat("does not fit ", at::toString(into), " at ", describe_shape(index)),
           cat(value), "at most 65504", "compute in bfloat16 or float32");
  }
  refuse(file, name, cat("not a number at ", describe_shape(index)), cat(value), "finite weights",
         "download the model again");
}

// A run of elements of one tensor, and where they go in host memory.
struct Piece {
  const SafetensorsFile* file = nullptr;
  std::string_view name;
  const SafetensorsView* view = nullptr;
  at::ScalarType type = at::kFloat;
  at::Tensor into;  // flat
  int64_t begin = 0, n = 0;
  std::span<const std::byte> bytes() const {
    const size_t size = at::elementSize(type);
    return view->data.subspan(static_cast<size_t>(begin) * size, static_cast<size_t>(n) * size);
  }
};

void add_pieces(const ShardedSafetensors& files, std::string_view name, const at::Tensor& into,
                std::vector<Piece>& pieces) {
  const SafetensorsFile& file = files.file_of(name);
  const SafetensorsView& view = file.at(name);
  const at::ScalarType type = scalar_type(file, name, view.dtype);
  const at::Tensor flat = into.view({-1});
  for (int64_t begin = 0; begin < flat.numel(); begin += kChunk) {
    const int64_t n = std::min(kChunk, flat.numel() - begin);
    pieces.push_back({&file, name, &view, type, flat.narrow(0, begin, n), begin, n});
  }
}

// Converts and checks them in the files' order. The next megabytes are asked for ahead, so that the
// disk works while weights are converted, and what was converted goes. Threads take one piece after
// the other, so that none waits for another's page faults.
void copy_checked(std::vector<Piece> pieces) {
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    return a.bytes().data() < b.bytes().data();
  });
  const auto ask = [&](size_t k) {
    if (k < pieces.size()) pieces[k].file->advise(FileAccess::kWillNeed, pieces[k].bytes());
  };
  for (size_t k = 0; k < kAhead; ++k) ask(k);
  std::atomic<size_t> next = 0, bad = pieces.size();
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t first, int64_t last) {
    const at::NoGradGuard no_grad;  // a worker thread has its own mode
    for (int64_t worker = first; worker < last; ++worker) {
      for (size_t k; (k = next.fetch_add(1)) < pieces.size();) {
        const Piece& piece = pieces[k];
        ask(k + kAhead);
        at::Tensor(piece.into).copy_(mapped(*piece.view, piece.type, piece.begin, piece.n));
        piece.file->advise(FileAccess::kDontNeed, piece.bytes());
        if (all_finite(piece.into)) continue;
        size_t known = bad.load();
        while (k < known && !bad.compare_exchange_weak(known, k)) {
        }
      }
    }
  });
  if (const size_t k = bad.load(); k < pieces.size()) {
    const Piece& p = pieces[k];
    refuse_value(*p.file, p.name, *p.view, p.type, p.into.scalar_type(), p.begin, p.n);
  }
}

// config.json, and of every tensor its name, type, shape and first and last bytes: two fine-tunings
// of one model differ.
void add_to_fingerprint(Sha256& hash, std::string_view name, const SafetensorsView& view) {
  constexpr size_t kEdge = 4096;
  const size_t edge = std::min(kEdge, view.data.size());
  hash.update(cat(name, ' ', to_string(view.dtype), ' ', describe_shape(view.shape), '\n'));
  hash.update(view.data.data(), edge);
  hash.update(view.data.data() + view.data.size() - edge, edge);
}

}  // namespace

ShardedSafetensors open_weights(const std::filesystem::path& directory, const ModelConfig& config) {
  ShardedSafetensors files = ShardedSafetensors::open(directory);
  std::set<std::string, std::less<>> expected;
  const Weights shapes = Weights::allocate(config, at::kMeta, at::kFloat);
  for (const auto& [name, tensor] : shapes.named) {
    expected.insert(name);
    if (!files.contains(name)) {
      throw Error({.code = ExitCode::kInput,
                   .where = cat(files.where(), ": tensor ", name),
                   .what = "missing",
                   .expected = describe_shape(tensor.sizes()),
                   .remedy = name == "lm_head.weight"
                                 ? "config.json says tie_word_embeddings is false, or "
                                   "does not say it, which means false: set it to true where "
                                   "the head is the embedding"
                                 : "download the model again"});
    }
    const SafetensorsView& view = files.at(name);
    if (!std::ranges::equal(view.shape, tensor.sizes())) {
      refuse(files.file_of(name), name, "wrong shape", describe_shape(view.shape),
             describe_shape(tensor.sizes()), "config.json and the weights are not of one model");
    }
  }
  const auto known = [&](const std::string& name) {
    return expected.contains(name) || name.ends_with("rotary_emb.inv_freq") ||
           (config.tie_word_embeddings && name == "lm_head.weight");
  };
  for (const std::string& name : files.names()) {
    if (!known(name)) {
      refuse(files.file_of(name), name, "unexpected", describe_shape(files.at(name).shape),
             cat("only the tensors of ", to_string(config.architecture), " with ",
                 config.num_layers, " layers"),
             "config.json and the weights are not of one model");
    }
  }
  return files;
}

void load_tensor(const ShardedSafetensors& files, const std::string& name, const at::Tensor& into) {
  const at::NoGradGuard no_grad;
  const at::Tensor host =
      into.is_cpu() ? into : at::empty(into.sizes(), into.options().device(at::kCPU));
  std::vector<Piece> pieces;
  add_pieces(files, name, host, pieces);
  copy_checked(std::move(pieces));
  if (!into.is_cpu()) into.copy_(host);
  files.done_with(name);
}

std::string load_weights(const std::filesystem::path& directory, const ModelConfig& config,
                         const Weights& weights) {
  const at::NoGradGuard no_grad;
  const ShardedSafetensors files = open_weights(directory, config);
  std::vector<Piece> pieces;
  for (const auto& [name, tensor] : weights.named) {
    if (tensor.is_cpu()) {
      add_pieces(files, name, tensor, pieces);
    } else {
      load_tensor(files, name, tensor);
    }
  }
  copy_checked(std::move(pieces));
  Sha256 hash;
  hash.update(read_text_file(directory / "config.json"));
  for (const auto& [name, tensor] : weights.named) {
    add_to_fingerprint(hash, name, files.at(name));
    files.done_with(name);
  }
  return hash.hex();
}

std::string open_streamed(const std::filesystem::path& directory, const ModelConfig& config,
                          const Weights& weights, std::unique_ptr<LayerStream>& stream,
                          at::Device device, at::ScalarType dtype) {
  ShardedSafetensors files = open_weights(directory, config);
  Sha256 hash;
  hash.update(read_text_file(directory / "config.json"));
  for (const auto& [name, shape] : Weights::allocate(config, at::kMeta, at::kFloat).named) {
    add_to_fingerprint(hash, name, files.at(name));
    files.done_with(name);
  }
  for (const auto& [name, tensor] : weights.named) load_tensor(files, name, tensor);
  stream = std::make_unique<LayerStream>(std::move(files), config, device, dtype);
  return hash.hex();
}

}  // namespace kvlingua
