// inspect: what a model's cache is made of.
#pragma once

#include "run_options.h"

namespace kvlingua::verbs {

struct InspectVerb {
  static constexpr VerbText kText{
      .name = "inspect",
      .help = "a model's cache: shapes, bytes per token, statistics by layer",
      .writes_file = true};

  std::vector<std::string> prompt;
  std::string prompts, dump, dtype, weights;
  int64_t determinism = 0, limit = 0;
  bool bench = false, layer_streaming = false;

  void declare(OptionList& list) {
    list.arguments("MODEL", "a directory, or a hub name in the local Hugging Face cache", 1, 1);
    list.texts("--prompt", prompt, "TEXT", "prompt to read; may be given again");
    list.text("--prompts", prompts, "FILE", "file of prompts, one a line");
    list.text("--dump", dump, "FILE", "write tokens, keys, values and logits as safetensors");
    list.number("--determinism", determinism,
                "run N times, with and without cache: same text and same bits");
    list.flag("--bench", bench, "cached against uncached decoding by context length");
    declare_dtype(list, dtype);
    list.text("--weights", weights, "FORMAT", "how the layers' matrices are held",
              {"auto", "dense", "nf4", "int8"});
    declare_streaming(list, layer_streaming);
    list.number("--limit", limit, "bench: longest context");
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
