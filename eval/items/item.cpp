#include "eval/items/item.h"

#include <string>

#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

// Code points before byte `at`.
int64_t code_points(std::string_view text, size_t at) {
  int64_t count = 0;
  for (size_t i = 0; i < at && i < text.size(); ++i)
    count += (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
  return count;
}

std::vector<bool> marked_tokens(const Encoding& encoding, const Probe& probe) {
  std::vector<bool> marked(encoding.size(), false);
  for (const auto& marker : probe.markers)
    for (size_t at = probe.context.find(marker); at != std::string::npos;
         at = probe.context.find(marker, at + 1)) {
      const int64_t begin = code_points(probe.context, at),
                    end = code_points(probe.context, at + marker.size());
      for (size_t t = 0; t < encoding.size(); ++t)
        if (encoding.offsets[t].first < end && encoding.offsets[t].second > begin) marked[t] = true;
    }
  return marked;
}

// The gold answer with its first marker replaced by what is known by heart.
std::string by_heart(const Probe& probe) {
  if (probe.parametric.empty() || probe.markers.empty()) return {};
  const size_t at = probe.answer.find(probe.markers.front());
  if (at == std::string::npos) return {};
  return probe.answer.substr(0, at) + probe.parametric.front() +
         probe.answer.substr(at + probe.markers.front().size());
}

void check_room(const Probe& probe, const char* role, int64_t tokens, int64_t limit) {
  if (tokens <= limit) return;
  throw Error({.code = ExitCode::kInput,
               .where = cat("probe ", printable(probe.id)),
               .what = cat("context longer than the ", role, " allows"),
               .got = cat(tokens, " tokens with prompt and answer"),
               .expected = cat("at most ", limit),
               .remedy = "shorten the context, or lower eval.max_new_tokens or eval.shifts"});
}

}  // namespace

Item make_item(const Probe& probe, const Reader& source, const Reader& target,
               AlignmentKind alignment, int64_t room) {
  Item item;
  item.probe = &probe;
  const Encoding target_span = target.tokenizer->encode(probe.context, false);
  const Encoding source_span = source.tokenizer->encode(probe.context, false);
  item.span = target_span.ids;
  item.source_span = source_span.ids;
  if (item.span.empty() || item.source_span.empty())
    throw Error({.code = ExitCode::kInput,
                 .where = cat("probe ", printable(probe.id)),
                 .what = "context without a token"});
  item.source_index = align(source_span, target_span, alignment).source_index;
  item.marked = marked_tokens(target_span, probe);
  if (probe.completion) {
    item.rest = target.encode(target.frame.after + probe.prompt);
    item.rest_alone = item.rest;
  } else {
    item.rest = target.encode("\n" + probe.prompt + target.frame.after);
    item.rest_alone = target.encode(probe.prompt + target.frame.after);
  }
  item.answer = target.encode(probe.answer);
  item.parametric = target.encode(by_heart(probe));
  const auto length = [](const std::vector<int64_t>& ids) {
    return static_cast<int64_t>(ids.size());
  };
  const int64_t after = std::max(room, std::max(length(item.answer), length(item.parametric)));
  check_room(probe, "target",
             target.prefix_length() + length(item.span) + length(item.rest) + after,
             target.model->config().max_position_embeddings);
  check_room(probe, "source", source.prefix_length() + length(item.source_span),
             source.model->config().max_position_embeddings);
  return item;
}

}  // namespace kvlingua
