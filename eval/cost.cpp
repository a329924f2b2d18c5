#include "eval/cost.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>

#include "eval/answers/injection.h"
#include "kvlingua/model/generation.h"

namespace kvlingua {

namespace {

// Waits for the device by reading one number from `result`.
void settle(const at::Tensor& result) { (void)result.flatten()[0].item<double>(); }

template <class Action>
double median_ms(const Action& action) {
  action();
  std::vector<double> times;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    action();
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
            .count());
  }
  std::sort(times.begin(), times.end());
  return times[1];
}

// Tokens of a context of `length` tokens, made by repeating real ones.
std::vector<int64_t> repeated(const std::vector<int64_t>& tokens, int64_t length) {
  std::vector<int64_t> result;
  while (static_cast<int64_t>(result.size()) < length)
    result.push_back(tokens[result.size() % tokens.size()]);
  return result;
}

// What the source writes down of its own cache for the target to read.
MessageCost measure_message(const EvaluationInput& input, const Item& item, const KvCache& read) {
  const Reader& source = input.source;
  const Reader& target = input.target;
  PrefillOptions last;
  last.logits = LogitsAt::kLast;
  last.want_cache = false;
  const KvCache source_past = KvCache::concat(source.prefix, read);
  const TokenBatch request =
      TokenBatch::from_rows({source.encode("\nWrite down everything above." + source.frame.after)});
  const auto start = std::chrono::steady_clock::now();
  const std::vector<int64_t> written =
      generate(*source.model, request, &source_past,
               {.max_new_tokens = input.options.message_tokens, .stop_ids = source.stop_ids})
          .front()
          .ids;
  const std::string said = source.decode(written);
  std::vector<int64_t> heard = target.before;
  for (int64_t id : target.encode(said)) heard.push_back(id);
  heard.insert(heard.end(), item.rest.begin(), item.rest.end());
  settle(target.model->prefill(TokenBatch::from_rows({heard}), nullptr, last).logits);
  return {.ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
                    .count(),
          .bytes = static_cast<int64_t>(said.size()),
          .tokens = static_cast<int64_t>(written.size())};
}

// `message`: null, or to be measured with the cache that was read here.
CostRow measure_length(const EvaluationInput& input, const Projector& projector, const Item& item,
                       int64_t length, MessageCost* message) {
  const at::NoGradGuard no_grad;
  const Reader& source = input.source;
  const Reader& target = input.target;
  const auto span = repeated(item.span, length), source_span = repeated(item.source_span, length);
  PrefillOptions last;
  last.logits = LogitsAt::kLast;
  last.want_cache = false;

  std::vector<int64_t> text = target.before;
  text.insert(text.end(), span.begin(), span.end());
  text.insert(text.end(), item.rest.begin(), item.rest.end());
  const TokenBatch whole = TokenBatch::from_rows({text}), rest = TokenBatch::from_rows({item.rest});
  const double prefill =
      median_ms([&] { settle(target.model->prefill(whole, nullptr, last).logits); });

  KvCache read;
  const double source_ms = median_ms([&] {
    read = read_spans(source, {source_span}, 1).front();
    settle(read.values());
  });
  const KvCache own = projector.fuses() ? read_spans(target, {span}, 1).front() : KvCache();
  const at::Tensor index = at::arange(length, at::kLong).unsqueeze(0).to(read.keys().device());
  const at::Tensor positions = (at::arange(length, at::kLong) + target.prefix_length())
                                   .unsqueeze(0)
                                   .to(read.keys().device());
  KvCache made;
  const double translate = median_ms([&] {
    made = projector
               .translate({.source = read,
                           .source_index_BT = index,
                           .positions_BT = positions,
                           .rope = target.model->rope(),
                           .own = projector.fuses() ? &own : nullptr})
               .to(target.model->device(), target.model->dtype());
    settle(made.values());
  });
  const KvCache past = KvCache::concat(target.prefix, made);
  const double question =
      median_ms([&] { settle(target.model->prefill(rest, &past, last).logits); });

  const auto tokens = static_cast<int64_t>(text.size()),
             asked = static_cast<int64_t>(item.rest.size());
  if (message != nullptr) *message = measure_message(input, item, read);
  return {.tokens = length,
          .prefill_ms = prefill,
          .translate_ms = translate,
          .question_ms = question,
          .source_prefill_ms = source_ms,
          .ttft_ratio = prefill / (translate + question),
          .bytes = read.bytes(),
          .prefill_flops = prefill_flops(target.model->config(), tokens, 0),
          .translate_flops =
              2.0 * static_cast<double>(projector.parameter_count()) * static_cast<double>(length) +
              prefill_flops(target.model->config(), asked, tokens - asked)};
}

}  // namespace

double prefill_flops(const ModelConfig& config, int64_t tokens, int64_t past) {
  const double t = static_cast<double>(tokens), p = static_cast<double>(past);
  const double head = static_cast<double>(config.vocab_size * config.hidden_size);
  const double body =
      static_cast<double>(config.parameter_count()) - head * (config.tie_word_embeddings ? 1 : 2);
  const double attention =
      4.0 * static_cast<double>(config.num_layers * config.num_heads * config.head_dim) *
      (t * p + t * (t + 1) / 2);
  return 2 * body * t + attention + 2 * head;  // logits of the last token only
}

std::optional<Cost> measure_cost(const EvaluationInput& input,
                                 const std::vector<std::vector<Item>>& blocks) {
  const auto named = input.projectors.find(input.options.gated);
  if (named == input.projectors.end() || blocks.empty()) return std::nullopt;
  const Projector& projector = *named->second.projector;
  const Item& item = blocks.front().front();
  std::vector<int64_t> spans;
  for (const auto& block : blocks)
    for (const Item& one : block) spans.push_back(static_cast<int64_t>(one.span.size()));
  std::sort(spans.begin(), spans.end());
  const int64_t median = spans[spans.size() / 2];
  const int64_t room = std::min(input.target.model->config().max_position_embeddings,
                                input.source.model->config().max_position_embeddings) -
                       static_cast<int64_t>(item.rest.size()) -
                       std::max(input.target.prefix_length(), input.source.prefix_length()) -
                       input.options.message_tokens - 16;
  Cost cost{.condition = input.options.gated};
  cost.median = measure_length(input, projector, item, std::min(median, room), &cost.message);
  for (int64_t length : {64, 256, 1024})
    if (length <= room)
      cost.lengths.push_back(measure_length(input, projector, item, length, nullptr));
  return cost;
}

}  // namespace kvlingua
