#include "kvlingua/bridge/cache_bridge.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "kvlingua/base/clock.h"
#include "kvlingua/base/error.h"
#include "kvlingua/model/decode_session.h"
#include "kvlingua/model/generation.h"

namespace kvlingua {
namespace {

int64_t size(const std::vector<int64_t>& ids) { return static_cast<int64_t>(ids.size()); }

bool is_blank(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; });
}

Error empty(const char* what, const char* remedy) {
  return Error({.code = ExitCode::kUsage, .where = what, .what = "is empty", .remedy = remedy});
}

void check_shape(const char* role, const KvShape& model, const KvShape& projector) {
  if (model == projector) return;
  throw Error({.code = ExitCode::kInput,
               .where = cat(role, " model"),
               .what = "the projector was made for another cache shape",
               .got = model.describe(),
               .expected = projector.describe(),
               .remedy = "name the pair that the projector was trained for"});
}

void check_room(const char* what, const char* role, const Reader& reader, int64_t tokens) {
  const int64_t limit = reader.model->config().max_position_embeddings;
  if (limit <= 0 || tokens <= limit) return;
  throw Error({.code = ExitCode::kInput,
               .where = what,
               .what = cat("longer than the ", role, " model allows"),
               .got = cat(tokens, " tokens with its chat prefix"),
               .expected = cat("at most ", limit),
               .remedy = "shorten it"});
}

// Work that was queued on a GPU is counted where it was asked for.
double seconds_after(const at::Tensor& result) {
  if (result.is_cuda()) result.flatten().narrow(0, 0, 1).item();
  return wall_seconds();
}

}  // namespace

CacheBridge::CacheBridge(const OpenModel& source, const OpenModel& target,
                         const Projector& projector, AlignmentKind alignment)
    : projector_(&projector), alignment_(alignment) {
  check_shape("source", source.model.kv_shape(), projector.source_shape());
  check_shape("target", target.model.kv_shape(), projector.target_shape());
  source_ = reader_of(source);
  target_ = reader_of(target);
}

CacheBridge::Context CacheBridge::read(std::string_view text) const {
  if (is_blank(text)) throw empty("context", "give the text that the source is to read");
  const at::NoGradGuard no_grad;
  const Encoding source_span = source_.tokenizer->encode(text, false);
  const Encoding target_span = target_.tokenizer->encode(text, false);
  const auto tokens = static_cast<int64_t>(target_span.size());
  check_room("context", "source", source_,
             source_.prefix_length() + static_cast<int64_t>(source_span.size()));
  check_room("context", "target", target_, target_.prefix_length() + tokens + 1);
  const Alignment alignment = align(source_span, target_span, alignment_);

  Context context;
  context.text = text;
  context.source_tokens = static_cast<int64_t>(source_span.size());
  context.target_tokens = tokens;
  const double begin = wall_seconds();
  const auto read = [&](const Reader& reader, const std::vector<int64_t>& ids) {
    return reader.model
        ->prefill(rows_at({ids}, {reader.prefix_length()}),
                  reader.prefix.empty() ? nullptr : &reader.prefix)
        .cache;
  };
  const KvCache source = read(source_, source_span.ids);
  KvCache own;
  if (projector_->fuses()) own = read(target_, target_span.ids);
  const double been_read = seconds_after(source.values());

  const at::Device device = target_.model->device();
  const int64_t start = target_.prefix_length();
  const at::TensorOptions integers = at::TensorOptions().dtype(at::kLong).device(device);
  const KvCache span =
      projector_
          ->translate({.source = source.to(device, source.keys().scalar_type()),
                       .source_index_BT =
                           at::tensor(alignment.source_index, at::kLong).unsqueeze(0).to(device),
                       .positions_BT = at::arange(start, start + tokens, integers).unsqueeze(0),
                       .rope = target_.model->rope(),
                       .own = projector_->fuses() ? &own : nullptr})
          .to(device, target_.model->dtype());
  context.past = target_.prefix.empty() ? span : KvCache::concat(target_.prefix, span);
  context.bytes = span.bytes();
  context.read_seconds = been_read - begin;
  context.translate_seconds = seconds_after(context.past.values()) - been_read;
  return context;
}

// A question about a context goes on in its turn, on a line of its own.
std::vector<int64_t> CacheBridge::rest(std::string_view question, bool after_context) const {
  if (is_blank(question)) throw empty("question", "ask something about the context");
  return target_.encode(cat(after_context ? "\n" : "", question, target_.frame.after));
}

Reply CacheBridge::ask(const Context& context, std::string_view question,
                       const AskOptions& options) const {
  Reply reply = answer(context.past, rest(question, true),
                       target_.prefix_length() + context.target_tokens, options);
  reply.context_bytes = context.bytes;
  return reply;
}

Reply CacheBridge::ask_text(std::string_view context, std::string_view question,
                            const AskOptions& options) const {
  const bool alone = is_blank(context);
  std::vector<int64_t> tokens = alone ? std::vector<int64_t>{} : target_.encode(context);
  const std::vector<int64_t> after = rest(question, !alone);
  tokens.insert(tokens.end(), after.begin(), after.end());
  Reply reply = answer(target_.prefix, tokens, target_.prefix_length(), options);
  reply.context_bytes = alone ? 0 : static_cast<int64_t>(context.size());
  return reply;
}

Reply CacheBridge::answer(const KvCache& past, const std::vector<int64_t>& tokens, int64_t position,
                          const AskOptions& options) const {
  check_room("context and question together", "target", target_, position + size(tokens) + 1);
  const at::NoGradGuard no_grad;
  const double begin = wall_seconds();
  Reply reply;
  StreamDecoder decoder(*target_.tokenizer);
  const auto say = [&](const std::string& piece) {
    reply.text += piece;
    return piece.empty() || !options.on_text || options.on_text(piece);
  };
  GenerationOptions how{.max_new_tokens = options.max_new_tokens, .stop_ids = target_.stop_ids};
  how.on_token = [&](int64_t, int64_t id) {
    if (reply.first_token_seconds == 0) reply.first_token_seconds = wall_seconds() - begin;
    return say(decoder.push(id));
  };
  std::vector<GeneratedRow> rows =
      generate(*target_.model, rows_at({tokens}, {position}), past.empty() ? nullptr : &past, how);
  reply.ids = std::move(rows.front().ids);
  reply.stopped = rows.front().stopped;
  say(decoder.finish());
  reply.read_tokens = size(tokens);
  reply.seconds = wall_seconds() - begin;
  if (reply.first_token_seconds == 0) reply.first_token_seconds = reply.seconds;  // nothing said
  return reply;
}

}  // namespace kvlingua
