#include "trainers/nano_lm/lm_tokenizer.h"

#include <nlohmann/json.hpp>

#include "datasets/corpus/synthetic_corpus.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/text/bpe_trainer.h"

namespace kvlingua {
namespace {

using nlohmann::ordered_json;

// The same ids in both models; the order is Qwen's.
const std::vector<AddedToken>& added_tokens() {
  static const std::vector<AddedToken> list = {
      {"<|endoftext|>"}, {"<|im_start|>"}, {"<|im_end|>"}, {"<think>", false}, {"</think>", false}};
  return list;
}

// Qwen3's template without its tools: ChatML, no default system turn, thoughts of earlier turns
// dropped, an empty think block when thinking is off. Renders what the original does for system,
// user and assistant turns.
constexpr const char* kChatTemplate =
    R"({%- set ns = namespace(last_query_index=messages|length - 1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- set ns.last_query_index = loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set thoughts = '' %}
        {%- if '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or thoughts) %}
            {%- set content = '<think>\n' + thoughts.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') %}
        {%- endif %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %})";

// Markup is cut out: added tokens never reach the BPE.
void add_plain(BpeTrainer& trainer, std::string text) {
  for (const auto& token : added_tokens()) {
    for (size_t at; (at = text.find(token.text)) != std::string::npos;) {
      trainer.add(text.substr(0, at));
      text.erase(0, at + token.text.size());
    }
  }
  trainer.add(text);
}

BpeVocabulary make_vocabulary(const LmTokenizerOptions& options) {
  BpeTrainer trainer;
  const SyntheticCorpus corpus(static_cast<uint64_t>(options.seed));
  for (int64_t i = 0; i < options.documents; ++i) {
    const SyntheticDialogue dialogue = corpus.dialogue(static_cast<uint64_t>(i));
    const ChatFrame frame = chat_frame(ChatFamily::kQwen3, dialogue.system);
    for (const auto& piece : render(dialogue, frame)) add_plain(trainer, piece.text);
  }
  for (int64_t i = 0; i < options.syllable_count; ++i) {
    for (const auto& syllable : nano_syllables()) {
      trainer.add(syllable);
      trainer.add(" " + syllable);
      trainer.add(" " + capitalised(syllable));
    }
    for (const auto& ending : nano_place_endings()) trainer.add(ending);
  }
  return trainer.train(options.vocab_size - static_cast<int64_t>(added_tokens().size()));
}

}  // namespace

void write_nano_tokenizer(const LmTokenizerOptions& options,
                          const std::filesystem::path& directory) {
  const BpeVocabulary vocabulary = make_vocabulary(options);
  const auto first_added = static_cast<int64_t>(vocabulary.tokens.size());
  make_directories(directory);
  write_file_atomic(directory / "tokenizer.json", to_tokenizer_json(vocabulary, added_tokens()));

  ordered_json decoder = ordered_json::object();
  for (size_t i = 0; i < added_tokens().size(); ++i) {
    decoder[std::to_string(first_added + static_cast<int64_t>(i))] = {
        {"content", added_tokens()[i].text},
        {"lstrip", false},
        {"normalized", false},
        {"rstrip", false},
        {"single_word", false},
        {"special", added_tokens()[i].special}};
  }
  const ordered_json config = {{"add_bos_token", false},
                               {"add_prefix_space", false},
                               {"added_tokens_decoder", decoder},
                               {"bos_token", nullptr},
                               {"chat_template", kChatTemplate},
                               {"clean_up_tokenization_spaces", false},
                               {"eos_token", "<|im_end|>"},
                               {"errors", "replace"},
                               {"model_max_length", 1024},
                               {"pad_token", "<|endoftext|>"},
                               {"split_special_tokens", false},
                               {"tokenizer_class", "Qwen2Tokenizer"},
                               {"unk_token", nullptr}};
  write_file_atomic(directory / "tokenizer_config.json", config.dump(2) + "\n");
  const ordered_json generation = {{"do_sample", false},
                                   {"eos_token_id", {first_added + 2, first_added}},
                                   {"pad_token_id", first_added}};
  write_file_atomic(directory / "generation_config.json", generation.dump(2) + "\n");
}

}  // namespace kvlingua
