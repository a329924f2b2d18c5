// The design of an identity run: personas and neutral topics in several wordings, prompts in
// groups, and how a system text and a prompt become one token sequence.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "kvlingua/config/identity_options.h"
#include "kvlingua/text/tokenizer.h"

namespace kvlingua {

struct Persona {
  std::string key, name, label;  // `label`: what a model is asked to recognise it by
  std::vector<std::string> markers;
  std::vector<std::string> wordings;
};
struct PromptGroup {
  std::string name;
  std::vector<std::string> prompts;
};
// A question whose answer begins with `beginning` and goes on with a persona's label.
struct Recognition {
  std::string prompt, beginning;
};
struct IdentityDesign {
  std::vector<Persona> personas, topics;
  std::vector<PromptGroup> groups;
  std::vector<Recognition> recognition;  // never empty
  int64_t prompts() const;
  // Of both; personas with one text each have one.
  int64_t wordings() const;
};

// eval/probes/identity.yaml
std::filesystem::path builtin_identity();
// `personas` and `prompts`; `topics`, a persona's `name`, `label` and `markers` may be missing, and
// `text` (or the persona itself being a text) stands for one wording; `recognition`, a list of
// {prompt, beginning}, has two questions unless given. Throws Error (kInput): a persona without
// texts, fewer than two personas, wordings that differ in number.
IdentityDesign read_identity(const std::filesystem::path& file);
// The first so many wordings and prompts of a group; 0: all.
void shorten(IdentityDesign& design, int64_t wordings, int64_t prompts_per_group);

// System texts in tokens. With equal_length each is cut to the shortest one when that costs no text
// more than 15 % of its tokens.
struct SystemTexts {
  std::vector<std::vector<std::string>> personas, topics;  // [persona][wording]
  int64_t shortest = 0, longest = 0;                       // tokens, before cutting
  bool equal = false;                                      // all are of one length now
};
SystemTexts system_texts(const IdentityDesign& design, const Tokenizer& tokenizer,
                         bool equal_length);

// "chat": the checkpoint's template; "plain", "chatml", "llama3". Gives the tokens, BOS where the
// tokenizer writes one.
std::function<std::vector<int64_t>(const std::string& system, const std::string& user)> joiner(
    const Tokenizer& tokenizer, const std::string& format);

}  // namespace kvlingua
