#include "datasets/corpus/chat_turns.h"

#include <algorithm>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua {
namespace {

// Stands for the content of message i; no template writes it by itself.
std::string stand_in(size_t i) { return cat("\x01", i, "\x02"); }

// Where markup and contents begin, in turns, and the end: 0, begin, end, begin, ..., length.
std::vector<int64_t> borders(const RenderedTurns& turns) {
  std::vector<int64_t> at{0};
  for (const auto& [begin, end] : turns.contents) at.insert(at.end(), {begin, end});
  at.push_back(turns.length);
  return at;
}

int64_t moved(int64_t place, size_t segment, const std::vector<int64_t>& from,
              const std::vector<int64_t>& to) {
  const int64_t length = from[segment + 1] - from[segment];
  if (length == 0) return to[segment];
  return to[segment] + (place - from[segment]) * (to[segment + 1] - to[segment]) / length;
}

}  // namespace

RenderedTurns render_turns(ChatFamily family, const std::vector<ChatMessage>& given,
                           const std::string& system, const ChatOptions& chosen) {
  ChatOptions options = chosen;
  options.add_generation_prompt = false;
  std::vector<ChatMessage> messages;
  const bool has_system = !given.empty() && given.front().role == "system";
  if (!system.empty() && !has_system) messages.push_back({"system", system});
  const size_t first = messages.size();
  messages.insert(messages.end(), given.begin(), given.end());
  std::vector<ChatMessage> marked = messages;
  for (size_t i = first; i < marked.size(); ++i) marked[i].content = stand_in(i);
  std::string_view rest;
  const std::string pattern = render_chat(family, marked, options);
  rest = pattern;
  RenderedTurns turns;
  for (size_t i = first; i < messages.size(); ++i) {
    const size_t at = rest.find(stand_in(i));
    if (at == std::string_view::npos) break;
    turns.text += rest.substr(0, at);
    turns.length += count_characters(rest.substr(0, at));
    const int64_t size = count_characters(messages[i].content);
    turns.contents.emplace_back(turns.length, turns.length + size);
    turns.text += messages[i].content;
    turns.length += size;
    rest.remove_prefix(at + stand_in(i).size());
  }
  turns.text += rest;
  turns.length += count_characters(rest);
  if (turns.contents.size() != given.size() ||
      turns.text != render_chat(family, messages, options)) {
    throw Error(
        {.code = ExitCode::kInput,
         .where = cat("chat template ", to_string(family)),
         .what = "does not write this conversation's contents as they are",
         .remedy = "leave the conversation out with data.skip_bad, or set data.chat: false"});
  }
  return turns;
}

Encoding in_coordinates_of(const RenderedTurns& other, const RenderedTurns& mine, Encoding tokens) {
  const std::vector<int64_t> from = borders(mine), to = borders(other);
  for (auto& [begin, end] : tokens.offsets) {
    // A token belongs to the segment where it begins, and ends in the one that holds its last
    // character.
    const auto after = std::upper_bound(from.begin(), from.end(), begin);
    const auto b = static_cast<size_t>(std::clamp<std::ptrdiff_t>(
        after - from.begin() - 1, 0, static_cast<std::ptrdiff_t>(from.size()) - 2));
    const auto before = std::lower_bound(from.begin(), from.end(), end);
    const auto e = std::max(
        b, static_cast<size_t>(std::clamp<std::ptrdiff_t>(
               before - from.begin() - 1, 0, static_cast<std::ptrdiff_t>(from.size()) - 2)));
    const bool nothing = begin == end;
    begin = moved(begin, b, from, to);
    end = nothing ? begin : std::max(begin, moved(end, e, from, to));
  }
  return tokens;
}

}  // namespace kvlingua
