// Two tiny models with tokenizers of their own in a folder, and a recipe over them: what generation
// and training need.
#pragma once

#include <fstream>
#include <string>

#include "datasets/corpus/synthetic_corpus.h"
#include "kvlingua/config/recipe.h"
#include "kvlingua/config/run_context.h"
#include "kvlingua/text/bpe_trainer.h"
#include "kvlingua/text/tokenizer.h"
#include "support/tiny_model.h"

namespace kvlingua::testing {

// A folder that load() accepts: config.json, model.safetensors, tokenizer.json,
// tokenizer_config.json.
inline void save_tiny_model(const std::filesystem::path& directory, Architecture architecture,
                            int64_t vocab, uint64_t seed, int64_t layers) {
  std::filesystem::create_directories(directory);
  BpeTrainer trainer;
  const SyntheticCorpus corpus(3);
  for (uint64_t i = 0; i < 60; ++i) trainer.add(corpus.context(i));
  const std::string tokenizer = to_tokenizer_json(
      trainer.train(vocab), {{"<|endoftext|>"}, {"<|im_start|>"}, {"<|im_end|>"}});
  std::ofstream(directory / "tokenizer.json") << tokenizer;
  std::ofstream(directory / "tokenizer_config.json")
      << R"({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})";
  ModelConfig config = tiny_config(architecture);
  config.vocab_size = Tokenizer::from_json(tokenizer).vocab_size();
  config.num_layers = layers;
  CausalLM::random(config, {}, seed).save(directory, at::kFloat);
}

inline void save_tiny_pair(const std::filesystem::path& directory) {
  save_tiny_model(directory / "source", Architecture::kQwen3, 340, 1, 3);
  save_tiny_model(directory / "target", Architecture::kQwen2, 290, 2, 2);
}

// `data`: more lines under data:, two spaces in.
inline Recipe tiny_recipe(const std::filesystem::path& directory, const std::string& data = {}) {
  return Recipe::from_yaml(
      "name: tiny\npair:\n  source: {name: " + (directory / "source").string() +
          ", chat: qwen3}\n  target: {name: " + (directory / "target").string() +
          ", chat: qwen2.5}\ndata:\n  kind: synthetic\n  synthetic: {documents: 40, seed: 5}\n  "
          "max_length: 64\n"
          "  batch_tokens: 512\n  shard_bytes: 65536\n" +
          data,
      "tiny.yaml");
}

inline RunContext tiny_context(const std::filesystem::path& out, int64_t rank = 0,
                               int64_t world = 1) {
  RunContext context;
  context.paths.out = out;
  context.paths.dataset = out / "datasets" / "tiny";
  context.paths.run = out / "checkpoints" / "tiny";
  context.world.rank = rank;
  context.world.size = world;
  context.verbosity = -1;
  return context;
}

}  // namespace kvlingua::testing
