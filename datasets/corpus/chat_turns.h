// A conversation as each model reads it: rendered by its own chat template, with the places where
// the turns' contents stand, so that the two renderings of one conversation can be aligned.
//
// Contents are the same text in both renderings; what stands between them (the markup of a turn's
// end and the next one's beginning) corresponds piece by piece. Positions are code points.
// Torch-free.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kvlingua/text/chat_template.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

struct RenderedTurns {
  std::string text;
  std::vector<std::pair<int64_t, int64_t>> contents;  // [begin, end) of each message's content
  int64_t length = 0;                                 // of text
  int64_t first_content() const { return contents.empty() ? 0 : contents.front().first; }
};

// `system`: a message of that role in front, when the conversation has none and this is not empty;
// it counts as markup. Throws Error (kInput) when the template does not write the contents as they
// are.
RenderedTurns render_turns(ChatFamily family, const std::vector<ChatMessage>& messages,
                           const std::string& system, const ChatOptions& options);

// The same tokens with offsets in the coordinates of the other rendering.
Encoding in_coordinates_of(const RenderedTurns& other, const RenderedTurns& mine, Encoding tokens);

}  // namespace kvlingua
