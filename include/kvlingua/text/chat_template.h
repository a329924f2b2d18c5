// Chat templates of the supported families, rendered exactly as their Jinja templates in
// transformers do.
//
// The family is recognised by what the model's own template renders: a fixed set of conversations
// is written by it (src/text/jinja.h) and by each family, and must be equal, character by
// character. A template that renders anything else is an error that says in what it differs and
// what to choose.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

struct ChatMessage {
  std::string role;  // system, user, assistant
  std::string content;
};

enum class ChatFamily {
  kQwen25,
  kQwen2,   // and the base models of Qwen2.5: their default system turn names nobody
  kChatml,  // the markup alone, no default system turn
  kQwen3,
  kSmolLM2,
  kZephyr,   // TinyLlama
  kLlama3,   // 3.0
  kLlama31,  // 3.1, 3.2 and 3.3, which print a date
  kPlain     // contents joined by newlines, no markup; only ever chosen by name
};

struct ChatOptions {
  bool add_generation_prompt = true;
  bool enable_thinking = false;      // Qwen3 only: false writes the empty think block
  std::string date = "26 Jul 2024";  // Llama 3.1+ prints a date; fixed so that runs repeat
};

std::string to_string(ChatFamily family);
std::optional<ChatFamily> chat_family_from_name(std::string_view name);
// Throws Error (kInput) when the tokenizer's template renders like none of the known ones,
// or there is none.
ChatFamily recognise_chat_family(const Tokenizer& tokenizer);

// The text to encode with add_special = false. Contents are taken as they are, special tokens in
// them included. Throws Error (kInput) for a role other than system, user and assistant.
std::string render_chat(ChatFamily family, const std::vector<ChatMessage>& messages,
                        const ChatOptions& options = {});

// What stands around the content of one user turn: `before` is the fixed chat prefix (the target's
// attention sinks), `after` ends the turn and opens the assistant's. before + content + after ==
// render_chat of that one message. Injection puts a translated span in place of (the beginning of)
// the content; pair generation reads the span after the same prefix. The three parts are always
// tokenised apart, so that span boundaries are token boundaries in every condition. (Llama 3's
// templates trim contents: there the equation holds for content without white space at its ends.)
struct ChatFrame {
  std::string before;
  std::string after;
};
// system: empty = what the template does by itself (Qwen2.5 writes its default system prompt).
ChatFrame chat_frame(ChatFamily family, std::string_view system = {},
                     const ChatOptions& options = {});

// Puts the tokenizer's BOS in front where its post-processor writes one and `ids` do not begin with
// it (Llama 3's rendered chats already do): never two of them.
std::vector<int64_t> prepend_bos(const Tokenizer& tokenizer, std::vector<int64_t> ids);

}  // namespace kvlingua
