// TextReader: a model as it reads text, before its weights are there: its tokenizer, the chat frame
// around one user turn, and the fixed prefix before every span.
//
//   before + span + rest     before: a beginning-of-text token where the tokenizer adds one, then
//                            ChatFrame::before; rest: what follows in the turn and ChatFrame::after
//
// The pieces are always tokenised apart (text/chat_template.h). Pair generation, distillation and
// Cache-to-Cache's chats need no more than this; who runs the model takes a Reader (reader.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/config/pair_options.h"
#include "kvlingua/model/model_config.h"
#include "kvlingua/text/chat_template.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

// What the chat template writes: nothing (data.chat off), the frame of one user turn that the span
// begins, or every turn of a conversation, so that no frame is left.
enum class Framing { kNone, kOneTurn, kEveryTurn };

struct TextReader {
  const Tokenizer* tokenizer = nullptr;
  std::string name;                  // the model's, for messages
  std::optional<ChatFamily> family;  // none: without chat
  std::string system;                // of the template, with `chat`
  ChatOptions chat;
  bool every_turn = false;
  ChatFrame frame;                // empty but for one turn
  std::vector<int64_t> before;    // tokens of the prefix; may be empty (no frame, no BOS)
  std::vector<int64_t> stop_ids;  // end a turn; the first is the one that an answer is taught with
  int64_t max_positions = 0;

  // The family is pair.*.chat by name, or recognised from the model's own template. `tokenizer`
  // must outlive the reader. Throws Error: kUsage for an unknown name, kInput for a template that
  // is none of the known ones.
  static TextReader of(const Tokenizer& tokenizer, const ModelOptions& options,
                       const ModelConfig& config, Framing framing = Framing::kOneTurn);

  int64_t prefix_length() const { return static_cast<int64_t>(before.size()); }
  std::vector<int64_t> encode(std::string_view text) const;   // without special tokens of its own
  std::string decode(const std::vector<int64_t>& ids) const;  // special tokens left out
};

}  // namespace kvlingua
