#include "kvlingua/bridge/text_reader.h"

#include <algorithm>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

ChatFamily chat_family_of(const ModelOptions& options, const Tokenizer& tokenizer) {
  if (options.chat.empty() || options.chat == "auto") return recognise_chat_family(tokenizer);
  if (const auto named = chat_family_from_name(options.chat)) return *named;
  throw Error({.code = ExitCode::kUsage,
               .where = cat("model ", printable(options.name), ": chat"),
               .what = "unknown chat template family",
               .got = printable(options.chat),
               .expected = "auto, qwen2.5, qwen3, smollm2, zephyr, llama3 or plain"});
}

std::vector<int64_t> stop_ids_of(const Tokenizer& tokenizer, const ModelConfig& config) {
  std::vector<int64_t> ids = config.eos_ids;
  if (const auto eos = tokenizer.eos_id(); eos && std::ranges::find(ids, *eos) == ids.end())
    ids.push_back(*eos);
  return ids;
}

}  // namespace

TextReader TextReader::of(const Tokenizer& tokenizer, const ModelOptions& options,
                          const ModelConfig& config, Framing framing) {
  TextReader reader{.tokenizer = &tokenizer,
                    .name = options.name,
                    .system = options.system,
                    .every_turn = framing == Framing::kEveryTurn,
                    .stop_ids = stop_ids_of(tokenizer, config),
                    .max_positions = config.max_position_embeddings};
  reader.chat.enable_thinking = options.thinking;
  if (framing != Framing::kNone) reader.family = chat_family_of(options, tokenizer);
  if (framing == Framing::kOneTurn)
    reader.frame = chat_frame(*reader.family, reader.system, reader.chat);
  reader.before = prepend_bos(tokenizer, reader.encode(reader.frame.before));
  return reader;
}

std::vector<int64_t> TextReader::encode(std::string_view text) const {
  return text.empty() ? std::vector<int64_t>{} : tokenizer->encode(text, false).ids;
}

std::string TextReader::decode(const std::vector<int64_t>& ids) const {
  return ids.empty() ? "" : tokenizer->decode(ids, true);
}

}  // namespace kvlingua
