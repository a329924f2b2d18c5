#include "kvlingua/model/inspect.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "kvlingua/base/error.h"
#include "kvlingua/base/random.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/safetensors_writer.h"
#include "kvlingua/model/decode_session.h"
#include "kvlingua/model/generation.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {
namespace {

using Json = nlohmann::ordered_json;

void check_stop() {
  if (stop_requested()) throw stopped_error("inspect keeps nothing");
}

const char* dtype_name(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "float32";
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    default:
      return at::toString(type);
  }
}

int64_t effective_rank(const at::Tensor& layer_HTD) {
  const at::Tensor matrix =
      layer_HTD.transpose(0, 1).reshape({layer_HTD.size(1), -1}).to(at::kCPU, at::kDouble);
  const at::Tensor energy = at::linalg_svdvals(matrix).square().cumsum(0);
  const double total = energy[-1].item<double>();
  if (!(total > 0)) return 0;
  return (energy < 0.9 * total).sum().item<int64_t>() + 1;
}

Json describe(const CausalLM& model, const std::string& name, const std::string& prompt,
              const KvCache& cache) {
  const ModelConfig& config = model.config();
  Json out = {{"model", name},
              {"architecture", to_string(config.architecture)},
              {"num_layers", config.num_layers},
              {"num_kv_heads", config.num_kv_heads},
              {"head_dim", config.head_dim},
              {"dtype", dtype_name(model.dtype())},
              {"prompt", prompt},
              {"seq_len", cache.tokens()},
              {"total_bytes", cache.bytes()},
              {"bytes_per_token", cache.bytes_per_token()},
              {"layers", Json::array()}};
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const at::Tensor key = cache.keys()[i][0], value = cache.values()[i][0];
    out["layers"].push_back({{"layer", i},
                             {"key_shape", key.sizes().vec()},
                             {"value_shape", value.sizes().vec()},
                             {"key_norm", key.to(at::kFloat).norm().item<double>()},
                             {"value_norm", value.to(at::kFloat).norm().item<double>()},
                             {"key_effective_rank", effective_rank(key)},
                             {"value_effective_rank", effective_rank(value)}});
  }
  return out;
}

void dump(const std::filesystem::path& path, const CausalLM& model, const std::string& name,
          const TokenBatch& batch) {
  PrefillOptions all;
  all.logits = LogitsAt::kAll;
  const PrefillResult result = model.prefill(batch, nullptr, all);
  std::vector<SafetensorsEntry> entries;
  std::vector<at::Tensor> tensors;
  const auto add = [&](std::string key, const at::Tensor& t, SafetensorsDtype type,
                       at::ScalarType stored) {
    tensors.push_back(t.to(at::kCPU, stored).contiguous());
    entries.push_back({std::move(key), type, tensors.back().sizes().vec()});
  };
  add("tokens", batch.ids_BT[0], SafetensorsDtype::kI64, at::kLong);
  for (int64_t i = 0; i < result.cache.layers(); ++i) {
    add(cat("layers.", i, ".key"), result.cache.keys()[i][0], SafetensorsDtype::kF32, at::kFloat);
    add(cat("layers.", i, ".value"), result.cache.values()[i][0], SafetensorsDtype::kF32,
        at::kFloat);
  }
  add("logits", result.logits[0], SafetensorsDtype::kF32, at::kFloat);
  SafetensorsWriter writer(path, entries,
                           {{"model", name},
                            {"architecture", to_string(model.config().architecture)},
                            {"rope_theta", cat(model.rope().theta)}});
  for (const at::Tensor& t : tensors)
    writer.write(
        {static_cast<const std::byte*>(t.const_data_ptr()), static_cast<size_t>(t.nbytes())});
  writer.finish();
}

at::Tensor last_logits(const CausalLM& model, const std::vector<int64_t>& ids) {
  PrefillOptions options;
  options.logits = LogitsAt::kLast;
  options.want_cache = false;
  return model.prefill(TokenBatch::from_rows({ids}), nullptr, options).logits[0];
}

// The same input again and again, and once without a cache.
Json determinism(const CausalLM& model, const Tokenizer& tokenizer, const std::vector<int64_t>& ids,
                 int64_t runs) {
  constexpr int64_t kNewTokens = 32;
  GenerationOptions options;
  options.max_new_tokens = std::min(
      kNewTokens, model.config().max_position_embeddings - static_cast<int64_t>(ids.size()));
  std::set<std::string> caches;
  std::set<std::vector<int64_t>> texts;
  std::set<std::vector<float>> logprobs;
  for (int64_t i = 0; i < runs; ++i) {
    check_stop();
    const auto batch = TokenBatch::from_rows({ids});
    caches.insert(model.prefill(batch).cache.fingerprint());
    const GeneratedRow row = generate(model, batch, nullptr, options)[0];
    texts.insert(row.ids);
    logprobs.insert(row.logprobs);
  }
  // Without a cache: every token reads the whole text again. Its logits differ in rounding only,
  // being products of other shapes.
  std::vector<int64_t> text = ids, uncached;
  DecodeSession session(model, 1, static_cast<int64_t>(ids.size()) + options.max_new_tokens);
  at::Tensor cached = session.append(TokenBatch::from_rows({ids}))[0];
  double difference = 0;
  for (int64_t i = 0; i < options.max_new_tokens; ++i) {
    check_stop();
    const at::Tensor logits = last_logits(model, text);
    difference = std::max(difference, (logits - cached).abs().max().item<double>());
    uncached.push_back(logits.argmax().item<int64_t>());
    text.push_back(uncached.back());
    if (i + 1 < options.max_new_tokens)
      cached = session.step(at::tensor({uncached.back()}, at::kLong))[0];
  }
  return {{"runs", runs},
          {"new_tokens", options.max_new_tokens},
          {"distinct_caches", caches.size()},
          {"distinct_texts", texts.size()},
          {"distinct_logprobs", logprobs.size()},
          {"identical", caches.size() == 1 && texts.size() == 1 && logprobs.size() == 1},
          {"uncached_text_identical", uncached == *texts.begin()},
          {"uncached_max_logit_difference", difference},
          {"text", tokenizer.decode(*texts.begin())}};
}

template <class F>
double median_seconds(int64_t times, F f) {
  std::vector<double> seconds;
  for (int64_t i = 0; i < times; ++i) {
    check_stop();
    const auto start = std::chrono::steady_clock::now();
    f();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

// One token behind a context of n: with the cache of the context, and by reading everything again.
Json bench(const CausalLM& model, int64_t longest) {
  Json rows = Json::array();
  Random random(0);
  for (int64_t n = 16; n <= longest && n + 16 <= model.config().max_position_embeddings; n *= 2) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < n; ++i)
      ids.push_back(
          static_cast<int64_t>(random.below(static_cast<uint64_t>(model.config().vocab_size))));
    DecodeSession session(model, 1, n + 16);
    session.append(TokenBatch::from_rows({ids}));
    const at::Tensor next = at::tensor({ids[0]}, at::kLong);
    session.step(next);
    // item(): a device has finished when its result is here.
    const double cached = median_seconds(9, [&] { session.step(next).max().item<float>(); });
    const double uncached =
        median_seconds(n <= 256 ? 5 : 3, [&] { last_logits(model, ids).max().item<float>(); });
    rows.push_back({{"context", n},
                    {"cached_tokens_per_second", 1 / cached},
                    {"uncached_tokens_per_second", 1 / uncached},
                    {"speedup", uncached / cached}});
  }
  return rows;
}

}  // namespace

const std::vector<std::string>& default_inspect_prompts() {
  static const std::vector<std::string> prompts{"The meaning of consciousness is",
                                                "Hello, my name is Lyra and I",
                                                "When two AI systems communicate they"};
  return prompts;
}

Json inspect(const InspectOptions& options) {
  const at::NoGradGuard no_grad;
  const std::string name = options.name.empty() ? options.directory.string() : options.name;
  const auto& prompts = options.prompts.empty() ? default_inspect_prompts() : options.prompts;
  const Tokenizer tokenizer = Tokenizer::from_directory(options.directory);
  std::vector<std::vector<int64_t>> ids;
  for (const std::string& prompt : prompts) {
    ids.push_back(tokenizer.encode(prompt).ids);
    if (ids.back().empty()) {
      throw Error({.code = ExitCode::kInput,
                   .where = "prompt",
                   .what = "has no tokens",
                   .got = cat('"', printable(prompt), '"'),
                   .expected = "some text"});
    }
  }
  const CausalLM model = CausalLM::load(options.directory, options.load);
  Json report = {{"prompts", Json::array()}, {"projected", Json::array()}};
  for (size_t i = 0; i < prompts.size(); ++i) {
    check_stop();
    report["prompts"].push_back(
        describe(model, name, prompts[i], model.prefill(TokenBatch::from_rows({ids[i]})).cache));
  }
  const int64_t per_token = report["prompts"][0]["bytes_per_token"];
  for (const int64_t n : {100, 1000, 4000, 8000})
    report["projected"].push_back({{"tokens", n}, {"bytes", n * per_token}});
  if (!options.dump.empty()) dump(options.dump, model, name, TokenBatch::from_rows({ids[0]}));
  if (options.determinism > 0)
    report["determinism"] = determinism(model, tokenizer, ids[0], options.determinism);
  if (options.bench) report["bench"] = bench(model, options.bench_limit);
  return report;
}

Json inspect_metadata(const Json& report) {
  const Json& prompts = report.at("prompts");
  return prompts.size() == 1 ? prompts[0] : prompts;
}

bool inspect_repeats(const Json& report) {
  return !report.contains("determinism") || report["determinism"]["identical"].get<bool>();
}

}  // namespace kvlingua
