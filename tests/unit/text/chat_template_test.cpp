#include "kvlingua/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlingua/base/error.h"
#include "support/text_goldens.h"

namespace kvlingua {
namespace {

using ::testing::HasSubstr;

Tokenizer with_template(const std::string& source) {
  const auto path = std::filesystem::path(KVLINGUA_TEST_DATA) / "text/smollm2/tokenizer.json";
  return Tokenizer::from_json(
      testing::slurp(path), source.empty() ? "" : nlohmann::json{{"chat_template", source}}.dump());
}

TEST(ChatTemplate, UnknownTemplatesSayHowToChoose) {
  const std::string chatml =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' "
      "}}{% endfor %}";
  const auto qwen3 =
      testing::slurp(std::filesystem::path(KVLINGUA_TEST_DATA) / "text/chat_templates/qwen3.jinja");
  std::string thinking_only = qwen3;  // as the models have it that always think
  thinking_only.resize(thinking_only.find("    {%- if enable_thinking"));
  for (const std::string& source :
       {std::string(), std::string("{{ messages }}"), chatml, thinking_only}) {
    try {
      recognise_chat_family(with_template(source));
      ADD_FAILURE() << "recognised " << source;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kInput);
      EXPECT_THAT(
          error.what(),
          HasSubstr("choose one with pair.source.chat and pair.target.chat: qwen2.5, qwen2, "
                    "chatml, qwen3, smollm2, zephyr, llama3, llama3.1, plain"));
    }
  }
}

std::string shipped(const std::string& name) {
  return testing::slurp(std::filesystem::path(KVLINGUA_TEST_DATA) / "text/chat_templates" / name);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

TEST(ChatTemplate, IsRecognisedByWhatItRenders) {
  const std::string system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
  const std::string qwen2 =
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
      "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
      "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
      "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  EXPECT_EQ(recognise_chat_family(with_template(qwen2)), ChatFamily::kQwen2);
  // The base models of Qwen2.5: its template, with the default system turn of Qwen2.
  EXPECT_EQ(recognise_chat_family(with_template(
                replaced(shipped("qwen2.5.jinja"), system, "You are a helpful assistant."))),
            ChatFamily::kQwen2);
  const std::string chatml =
      replaced(qwen2,
               "{% if loop.first and messages[0]['role'] != 'system' %}"
               "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}",
               "");
  EXPECT_EQ(recognise_chat_family(with_template(chatml)), ChatFamily::kChatml);
  EXPECT_EQ(recognise_chat_family(with_template(replaced(shipped("qwen2.5.jinja"), "\n", "\r\n"))),
            ChatFamily::kQwen25);
}

TEST(ChatTemplate, OneThatAddsToTheDefaultSystemTurnIsNotTheOriginal) {
  const std::string rule = " Always answer in French.";
  for (const auto& [file, sentence] : {std::pair{"qwen2.5.jinja", "You are a helpful assistant."},
                                       {"smollm2.jinja", "trained by Hugging Face"}}) {
    try {
      recognise_chat_family(with_template(replaced(shipped(file), sentence, sentence + rule)));
      ADD_FAILURE() << file;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("a default system turn of its own"));
      EXPECT_THAT(error.what(), HasSubstr(sentence + rule));
      EXPECT_THAT(error.what(), HasSubstr("chat: chatml, and that text as system"));
    }
  }
}

TEST(ChatTemplate, UnknownRolesAreNamed) {
  try {
    render_chat(ChatFamily::kQwen3, {{"user", "a"}, {"tool", "b"}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "message 1: unknown role: got tool, expected system, user or assistant");
  }
}

TEST(ChatTemplate, PlainJoinsByNewlines) {
  EXPECT_EQ(render_chat(ChatFamily::kPlain, {{"system", "s"}, {"user", "u"}}), "s\nu");
  EXPECT_EQ(chat_frame(ChatFamily::kPlain).before, "");
  EXPECT_EQ(chat_frame(ChatFamily::kPlain).after, "");
  EXPECT_EQ(chat_family_from_name("alpaca"), std::nullopt);
}

TEST(ChatTemplate, NeverTwoBos) {
  const auto data = std::filesystem::path(KVLINGUA_TEST_DATA) / "text";
  const Tokenizer llama = Tokenizer::from_directory(data / "llama3");
  const int64_t bos = *llama.token_to_id("<|begin_of_text|>");
  EXPECT_EQ(prepend_bos(llama, {7, 8}), (std::vector<int64_t>{bos, 7, 8}));
  const auto rendered = llama.encode(render_chat(ChatFamily::kLlama3, {{"user", "Hi"}}), false).ids;
  EXPECT_EQ(rendered.front(), bos);
  EXPECT_EQ(prepend_bos(llama, rendered), rendered);
  EXPECT_EQ(prepend_bos(llama, {}), (std::vector<int64_t>{bos}));
  const Tokenizer qwen = Tokenizer::from_directory(data / "qwen");
  EXPECT_EQ(prepend_bos(qwen, {7}), (std::vector<int64_t>{7}));
  const Tokenizer tiny = Tokenizer::from_directory(data / "sentencepiece");
  EXPECT_EQ(prepend_bos(tiny, {7}), (std::vector<int64_t>{1, 7}));
}

}  // namespace
}  // namespace kvlingua
