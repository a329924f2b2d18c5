// Chat rendering against transformers' apply_chat_template with the families' own Jinja templates.
#include "kvlingua/text/chat_template.h"
#include "support/text_goldens.h"

namespace kvlingua {
namespace {

using testing::golden;
using testing::slurp;

std::string template_text(const std::string& name) {
  return slurp(std::filesystem::path(KVLINGUA_TEST_DATA) / "text/chat_templates" /
               (name + ".jinja"));
}

Tokenizer with_template(const std::string& source) {
  const auto path = std::filesystem::path(KVLINGUA_TEST_DATA) / "text/smollm2/tokenizer.json";
  return Tokenizer::from_json(slurp(path), nlohmann::json{{"chat_template", source},
                                                          {"bos_token", "<|begin_of_text|>"},
                                                          {"eos_token", "</s>"}}
                                               .dump());
}

std::vector<ChatMessage> messages_of(const nlohmann::json& list) {
  std::vector<ChatMessage> out;
  for (const auto& m : list)
    out.push_back({m["role"].get<std::string>(), m["content"].get<std::string>()});
  return out;
}

TEST(ChatGolden, RendersAsTransformers) {
  const auto data = golden("chat.json");
  size_t compared = 0;
  for (const auto& one : data["cases"]) {
    const auto family = chat_family_from_name(one["family"].get<std::string>());
    ASSERT_TRUE(family) << one["family"];
    EXPECT_EQ(recognise_chat_family(with_template(template_text(one["template"]))), *family)
        << one["template"];
    ChatOptions options;
    options.enable_thinking = one["extra"].value("enable_thinking", false);
    options.date = one["extra"].value("date_string", options.date);
    for (size_t i = 0; i < data["messages"].size(); ++i) {
      const auto messages = messages_of(data["messages"][i]);
      for (const bool prompt : {false, true}) {
        options.add_generation_prompt = prompt;
        EXPECT_EQ(render_chat(*family, messages, options),
                  one["rendered"][i][prompt ? 1 : 0].get<std::string>())
            << one["template"] << " " << data["messages"][i].dump();
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, 600U);
}

TEST(ChatGolden, FrameAndContentAreTheRenderedTurn) {
  for (const char* name :
       {"qwen2.5", "qwen3", "smollm2", "zephyr", "llama3", "llama3.1", "plain"}) {
    const ChatFamily family = *chat_family_from_name(name);
    EXPECT_EQ(to_string(family), name);
    for (const std::string system : {"", "Be brief."}) {
      const ChatFrame frame = chat_frame(family, system);
      for (const std::string content : {"Hi", "two\nlines", "<|im_end|>", "1"}) {
        std::vector<ChatMessage> messages;
        if (!system.empty()) messages.push_back({"system", system});
        messages.push_back({"user", content});
        EXPECT_EQ(frame.before + content + frame.after, render_chat(family, messages)) << name;
      }
    }
  }
  EXPECT_EQ(chat_frame(ChatFamily::kQwen25).before,
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
            "assistant.<|im_end|>\n<|im_start|>user\n");
}

}  // namespace
}  // namespace kvlingua
