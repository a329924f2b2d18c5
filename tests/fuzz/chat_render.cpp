// layers: text
// Any roles and contents through every chat family; any text as a model's own template.
// Input: one byte of options, then contents, each begun by a byte that says its role.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/text/chat_template.h"
#include "src/text/json_view.h"

namespace {

std::vector<kvlingua::ChatMessage> messages_of(std::string_view input) {
  static const char* const kRoles[] = {"system", "user", "assistant", "user", "assistant", "tool"};
  std::vector<kvlingua::ChatMessage> messages;
  while (!input.empty()) {
    const size_t end = std::min(input.find('\xFE', 1), input.size());
    messages.push_back(
        {kRoles[static_cast<unsigned char>(input[0]) % 6], std::string(input.substr(1, end - 1))});
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  return messages;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvlingua;
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  ChatOptions options;
  options.add_generation_prompt = (data[0] & 1) != 0;
  options.enable_thinking = (data[0] & 2) != 0;
  const auto messages = messages_of(input);
  for (const auto family :
       {ChatFamily::kQwen25, ChatFamily::kQwen3, ChatFamily::kSmolLM2, ChatFamily::kZephyr,
        ChatFamily::kLlama3, ChatFamily::kLlama31, ChatFamily::kPlain}) {
    try {
      render_chat(family, messages, options);
      const ChatFrame frame = chat_frame(family, input, options);
      std::vector<ChatMessage> turn = {{"user", "x"}};
      if (!input.empty()) turn.insert(turn.begin(), {"system", std::string(input)});
      if (frame.before + "x" + frame.after != render_chat(family, turn, options)) std::abort();
    } catch (const Error&) {
    }
  }
  try {
    static const std::string kSmall = R"({"model": {"vocab": {"a": 0}, "merges": []}})";
    const nlohmann::json config = {{"chat_template", input}};
    recognise_chat_family(Tokenizer::from_json(
        kSmall, config.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
  } catch (const Error&) {
  }
  return 0;
}
