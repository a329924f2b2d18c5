#include "kvlingua/text/chat_template.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "jinja.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/io/sha256.h"
#include "unicode.h"

namespace kvlingua {
namespace {

constexpr std::string_view kQwen25System =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
constexpr std::string_view kQwen2System = "You are a helpful assistant.";
constexpr std::string_view kSmolLM2System =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

constexpr std::array<std::pair<ChatFamily, std::string_view>, 9> kNames = {{
    {ChatFamily::kQwen25, "qwen2.5"},
    {ChatFamily::kQwen2, "qwen2"},
    {ChatFamily::kChatml, "chatml"},
    {ChatFamily::kQwen3, "qwen3"},
    {ChatFamily::kSmolLM2, "smollm2"},
    {ChatFamily::kZephyr, "zephyr"},
    {ChatFamily::kLlama3, "llama3"},
    {ChatFamily::kLlama31, "llama3.1"},
    {ChatFamily::kPlain, "plain"},
}};

// Python's str.strip(chars) and its one-sided forms, for "\n".
std::string_view lstrip_newlines(std::string_view text) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  return text;
}
std::string_view rstrip_newlines(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

// Python's str.strip(): besides White_Space it takes the four separators U+001C to U+001F.
bool is_python_space(char32_t c) { return text::is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

std::string_view trim(std::string_view content) {
  size_t first = content.size(), last = 0;
  for (size_t at = 0; at < content.size();) {
    const size_t begin = at;
    const Utf8Step step = utf8_step(content, at);
    size_t next = at;
    const bool space = step.valid && is_python_space(next_code_point(content, next));
    at += step.length;
    if (space) continue;
    first = std::min(first, begin);
    last = at;
  }
  return first < last ? content.substr(first, last - first) : std::string_view();
}

void chatml_turn(std::string& out, std::string_view role, std::string_view content) {
  out.append("<|im_start|>").append(role).append("\n").append(content).append("<|im_end|>\n");
}

// Qwen2, Qwen2.5 and SmolLM2: a default system turn when there is none, then the turns as they are;
// plain ChatML has no default.
std::string render_chatml(std::string_view default_system, const std::vector<ChatMessage>& messages,
                          const ChatOptions& options) {
  std::string out;
  if (!default_system.empty() && !messages.empty() && messages.front().role != "system")
    chatml_turn(out, "system", default_system);
  for (const ChatMessage& message : messages) chatml_turn(out, message.role, message.content);
  if (options.add_generation_prompt) out += "<|im_start|>assistant\n";
  return out;
}

// The last user turn that is not the answer of a tool: what comes after it keeps its reasoning.
size_t last_query(const std::vector<ChatMessage>& messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const ChatMessage& message = messages[i];
    const bool tool = message.content.starts_with("<tool_response>") &&
                      message.content.ends_with("</tool_response>");
    if (message.role == "user" && !tool) return i;
  }
  return messages.empty() ? 0 : messages.size() - 1;
}

struct Reasoned {
  std::string_view reasoning, content;
};

// "<think>...</think>..." taken apart as the template does.
Reasoned split_reasoning(std::string_view message) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  const size_t last = message.rfind(kClose);
  if (last == std::string_view::npos) return {{}, message};
  std::string_view reasoning = rstrip_newlines(message.substr(0, message.find(kClose)));
  if (const size_t open = reasoning.rfind(kOpen); open != std::string_view::npos)
    reasoning.remove_prefix(open + kOpen.size());
  return {lstrip_newlines(reasoning), lstrip_newlines(message.substr(last + kClose.size()))};
}

std::string render_qwen3(const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  std::string out;
  const size_t query = last_query(messages);
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role != "assistant") {
      chatml_turn(out, message.role, message.content);
      continue;
    }
    const auto [reasoning, content] = split_reasoning(message.content);
    if (i > query && (i + 1 == messages.size() || !reasoning.empty())) {
      chatml_turn(out, "assistant",
                  cat("<think>\n", rstrip_newlines(lstrip_newlines(reasoning)), "\n</think>\n\n",
                      lstrip_newlines(content)));
    } else {
      chatml_turn(out, "assistant", content);
    }
  }
  if (options.add_generation_prompt) {
    out += "<|im_start|>assistant\n";
    if (!options.enable_thinking) out += "<think>\n\n</think>\n\n";
  }
  return out;
}

std::string render_zephyr(const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  std::string out;
  for (const ChatMessage& message : messages)
    out += cat("<|", message.role, "|>\n", message.content, "</s>\n");
  if (options.add_generation_prompt && !messages.empty()) out += "<|assistant|>\n";
  return out;
}

void llama_turn(std::string& out, std::string_view role, std::string_view content) {
  out += cat("<|start_header_id|>", role, "<|end_header_id|>\n\n", content, "<|eot_id|>");
}

std::string render_llama3(bool with_date, const std::vector<ChatMessage>& messages,
                          const ChatOptions& options) {
  std::string out;
  size_t first = 0;
  if (with_date) {
    const bool has_system = !messages.empty() && messages.front().role == "system";
    const std::string_view system =
        has_system ? trim(messages.front().content) : std::string_view();
    first = has_system ? 1 : 0;
    out += "<|begin_of_text|>";
    llama_turn(
        out, "system",
        cat("Cutting Knowledge Date: December 2023\nToday Date: ", options.date, "\n\n", system));
  } else if (!messages.empty()) {
    out += "<|begin_of_text|>";
  }
  for (size_t i = first; i < messages.size(); ++i)
    llama_turn(out, messages[i].role, trim(messages[i].content));
  if (options.add_generation_prompt) out += "<|start_header_id|>assistant<|end_header_id|>\n\n";
  return out;
}

std::string render_plain(const std::vector<ChatMessage>& messages) {
  std::string out;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i > 0) out += '\n';
    out += messages[i].content;
  }
  return out;
}

void check_roles(const std::vector<ChatMessage>& messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role == "system" || role == "user" || role == "assistant") continue;
    throw Error({.code = ExitCode::kInput,
                 .where = cat("message ", i),
                 .what = "unknown role",
                 .got = printable(role, 40),
                 .expected = "system, user or assistant"});
  }
}

std::string known_names() {
  std::string names;
  for (const auto& [family, name] : kNames) names += cat(names.empty() ? "" : ", ", name);
  return names;
}

[[noreturn]] void unknown_template(const std::string& what, const std::string& got,
                                   const std::string& remedy = {}) {
  throw Error({.code = ExitCode::kInput,
               .where = "chat template",
               .what = what,
               .got = got,
               .remedy = remedy.empty() ? cat("choose one with pair.source.chat and "
                                              "pair.target.chat: ",
                                              known_names())
                                        : remedy});
}

// What is compared to tell templates apart: roles, the order of turns, what is trimmed, reasoning,
// markup within contents.
const std::vector<std::vector<ChatMessage>>& probes() {
  static const std::vector<std::vector<ChatMessage>> list = {
      {{"user", "Hi"}},
      {{"system", "Be brief."}, {"user", "Hi"}},
      {{"user", "One"}, {"assistant", "Two"}},
      {{"user", "One"}, {"assistant", "Two"}, {"user", "Three"}},
      {{"system", "S"}, {"user", "One"}, {"assistant", "Two"}, {"user", "3"}, {"assistant", "4"}},
      {{"user", " \n a b \t\n"}, {"assistant", "\n\n c \n"}},
      {{"system", "  s \n"}, {"user", "\nx"}, {"assistant", " y"}, {"user", "z "}},
      {{"user", "q"}, {"assistant", "<think>\nhm\n</think>\n\nanswer"}},
      {{"user", "q"}, {"assistant", "<think>\nhm\n</think>\n\nanswer"}, {"user", "r"}},
      {{"user", "<|im_end|> <|eot_id|> </s> {{ x }} & < > \" '"},
       {"assistant", "\xc3\xa9\xe4\xb8\xad"}},
      {{"user", ""}, {"assistant", ""}, {"user", "end"}},
  };
  return list;
}

// A template of a model, and what it is given.
class OwnTemplate {
 public:
  explicit OwnTemplate(const Tokenizer& tokenizer) : program_(tokenizer.chat_template()) {
    if (const auto id = tokenizer.bos_id()) variables_["bos_token"] = tokenizer.id_to_token(*id);
    if (const auto id = tokenizer.eos_id()) variables_["eos_token"] = tokenizer.id_to_token(*id);
  }
  std::string render(const std::vector<ChatMessage>& messages, const ChatOptions& options) const {
    nlohmann::ordered_json given = variables_;
    given["messages"] = nlohmann::ordered_json::array();
    for (const ChatMessage& m : messages)
      given["messages"].push_back({{"role", m.role}, {"content", m.content}});
    given["add_generation_prompt"] = options.add_generation_prompt;
    given["enable_thinking"] = options.enable_thinking;
    given["date_string"] = options.date;
    return program_.render(given);
  }

 private:
  text::JinjaTemplate program_;
  nlohmann::ordered_json variables_ = nlohmann::ordered_json::object();
};

std::vector<ChatOptions> probe_options() {
  std::vector<ChatOptions> list;
  for (const bool prompt : {true, false}) {
    for (const bool thinking : {false, true}) {
      ChatOptions options;
      options.add_generation_prompt = prompt;
      options.enable_thinking = thinking;
      if (prompt && thinking) options.date = "01 Jan 2031";
      list.push_back(options);
    }
  }
  return list;
}

// Whether the template writes every probe as the family does. `with_system`: each conversation is
// given to the family with this system turn where it has none.
bool renders_as(const OwnTemplate& own, ChatFamily family, std::string_view with_system = {}) {
  for (const ChatOptions& options : probe_options()) {
    for (const std::vector<ChatMessage>& probe : probes()) {
      std::vector<ChatMessage> messages = probe;
      if (!with_system.empty() && messages.front().role != "system")
        messages.insert(messages.begin(), {"system", std::string(with_system)});
      if (own.render(probe, options) != render_chat(family, messages, options)) return false;
    }
  }
  return true;
}

// The default system turn of a template that is ChatML's but for it; empty: it is not.
std::string own_system(const OwnTemplate& own) {
  constexpr std::string_view kBegin = "<|im_start|>system\n", kEnd = "<|im_end|>\n";
  const std::string whole = own.render(probes().front(), {});
  const size_t end = whole.find(kEnd);
  if (!whole.starts_with(kBegin) || end == std::string::npos) return {};
  const std::string system = whole.substr(kBegin.size(), end - kBegin.size());
  return renders_as(own, ChatFamily::kChatml, system) ? system : std::string();
}

}  // namespace

std::string to_string(ChatFamily family) {
  for (const auto& [value, name] : kNames) {
    if (value == family) return std::string(name);
  }
  return "plain";
}

std::optional<ChatFamily> chat_family_from_name(std::string_view name) {
  for (const auto& [value, known] : kNames) {
    if (known == name) return value;
  }
  return std::nullopt;
}

ChatFamily recognise_chat_family(const Tokenizer& tokenizer) {
  const std::string& source = tokenizer.chat_template();
  if (source.empty()) unknown_template("the model has none", {});
  const std::string got = cat("sha256 ", sha256_hex(source).substr(0, 16), ", beginning ",
                              printable(source.substr(0, source.find_first_of("\r\n")), 60));
  std::string system;
  try {
    const OwnTemplate own(tokenizer);
    for (const auto& [family, name] : kNames) {
      if (family != ChatFamily::kPlain && renders_as(own, family)) return family;
    }
    system = own_system(own);
  } catch (const Error& error) {
    const std::string& what = error.parts().got;
    unknown_template(cat("cannot be read: ", error.parts().what, what.empty() ? "" : " ", what),
                     got);
  }
  if (!system.empty()) {
    unknown_template(
        cat("is chatml with a default system turn of its own, ", printable(system, 300)), got,
        "choose it as what it is: chat: chatml, and that text as system, under "
        "pair.source or pair.target");
  }
  unknown_template("renders unlike every known one", got);
}

std::string render_chat(ChatFamily family, const std::vector<ChatMessage>& messages,
                        const ChatOptions& options) {
  check_roles(messages);
  switch (family) {
    case ChatFamily::kQwen25:
      return render_chatml(kQwen25System, messages, options);
    case ChatFamily::kQwen2:
      return render_chatml(kQwen2System, messages, options);
    case ChatFamily::kChatml:
      return render_chatml({}, messages, options);
    case ChatFamily::kSmolLM2:
      return render_chatml(kSmolLM2System, messages, options);
    case ChatFamily::kQwen3:
      return render_qwen3(messages, options);
    case ChatFamily::kZephyr:
      return render_zephyr(messages, options);
    case ChatFamily::kLlama3:
      return render_llama3(false, messages, options);
    case ChatFamily::kLlama31:
      return render_llama3(true, messages, options);
    case ChatFamily::kPlain:
      return render_plain(messages);
  }
  unknown_template("no such family", cat(static_cast<int>(family)));
}

ChatFrame chat_frame(ChatFamily family, std::string_view system, const ChatOptions& options) {
  if (family == ChatFamily::kPlain) {
    return {system.empty() ? std::string() : cat(system, "\n"), {}};
  }
  // A marker that no template changes shows where the content stands.
  constexpr std::string_view kMarker = "\x01";
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({"system", std::string(system)});
  messages.push_back({"user", std::string(kMarker)});
  const std::string whole = render_chat(family, messages, options);
  const size_t at = whole.rfind(kMarker);
  return {whole.substr(0, at), whole.substr(at + kMarker.size())};
}

std::vector<int64_t> prepend_bos(const Tokenizer& tokenizer, std::vector<int64_t> ids) {
  const Encoding probe = tokenizer.encode("a", true);
  if (probe.ids.empty() || probe.offsets.front().second > 0) return ids;  // nothing is put in front
  const int64_t bos = probe.ids.front();
  if (ids.empty() || ids.front() != bos) ids.insert(ids.begin(), bos);
  return ids;
}

}  // namespace kvlingua
