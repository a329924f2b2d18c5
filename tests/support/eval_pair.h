// A pair for evaluation tests: a small tokenizer trained on the nano families, and random decoders
// of that vocabulary.
#pragma once

#include <memory>
#include <vector>

#include "eval/evaluation.h"
#include "kvlingua/projector/identity.h"
#include "kvlingua/text/bpe_trainer.h"
#include "kvlingua/text/chat_template.h"
#include "support/tiny_model.h"

namespace kvlingua::testing {

inline std::vector<Probe> nano_probes(const std::string& family, int64_t n,
                                      bool completion = false) {
  std::vector<Probe> probes;
  for (const auto& item : make_family({.family = family,
                          .completion = completion,
                          .n = n,
                          .seed = 1,
                          .style = FamilyStyle::kNano}))
    probes.push_back(to_probe(item));
  return probes;
}

inline const Tokenizer& small_tokenizer() {
  static const Tokenizer tokenizer = [] {
    BpeTrainer trainer;
    for (const char* family : {"identity", "counterfact", "needle"})
      for (const Probe& probe : nano_probes(family, 40)) {
        trainer.add(probe.context);
        trainer.add(probe.prompt);
      }
    return Tokenizer::from_json(to_tokenizer_json(
        trainer.train(400), {{"<|endoftext|>"}, {"<|im_start|>"}, {"<|im_end|>"}}));
  }();
  return tokenizer;
}

// A random decoder with weights large enough that what it reads shows in what it says.
inline CausalLM small_model(Architecture architecture, uint64_t seed = 1,
                            const LoadOptions& load = {}) {
  ModelConfig config = tiny_config(architecture);
  config.vocab_size = small_tokenizer().vocab_size();
  config.max_position_embeddings = 1024;
  config.eos_ids = {*small_tokenizer().token_to_id("<|im_end|>")};
  CausalLM model = CausalLM::random(config, load, seed);
  for (const auto& [name, tensor] : model.parameters()) {
    if (tensor.dim() == 2)
      tensor.mul_(name.find("embed") != std::string::npos ? 8.0 : 12.0);
    else
      tensor.add_(tensor.cumsum(0).sin(), 0.3);
  }
  return model;
}

// One model as source and target, with the identity projector: a translation that loses nothing.
struct SelfPair {
  explicit SelfPair(Architecture architecture, const LoadOptions& load = {})
      : model(small_model(architecture, 1, load)),
        reader(Reader::make(
            model, TextReader::of(small_tokenizer(), {.chat = "smollm2"}, model.config()))),
        identity(model.kv_shape(), model.kv_shape()) {}

  EvaluationInput input(std::vector<Probe> probes, std::vector<std::string> conditions) const {
    EvaluationInput in{.source = reader, .target = reader};
    in.alignment = AlignmentKind::kIdentity;
    in.options.conditions = std::move(conditions);
    in.options.families = {};
    in.options.gated = "identity";
    in.options.max_new_tokens = 8;
    in.options.raw_tokens = 6;
    in.options.message_tokens = 6;
    in.options.shifts = {1, 8, 40};
    in.options.bootstrap = 200;
    in.options.latency = in.options.fidelity = false;
    in.projectors = {{"identity", {&identity, ""}}};
    in.probes = std::move(probes);
    return in;
  }

  CausalLM model;
  Reader reader;
  IdentityProjector identity;
};

}  // namespace kvlingua::testing
