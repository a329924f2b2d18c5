// The tokenizer that both nano models share: byte-level BPE made from the built-in corpus, with
// ChatML's special tokens and Qwen3's chat template, in the files that transformers and
// text/tokenizer.h read.
#pragma once

#include <filesystem>

#include "trainers/nano_lm/lm_options.h"

namespace kvlingua {

// Writes tokenizer.json, tokenizer_config.json and generation_config.json. A function of `options`
// alone.
void write_nano_tokenizer(const LmTokenizerOptions& options,
                          const std::filesystem::path& directory);

}  // namespace kvlingua
