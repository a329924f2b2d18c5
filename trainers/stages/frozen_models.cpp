#include "trainers/stages/frozen_models.h"

#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/bridge/open_model.h"

namespace kvlingua {

std::unique_ptr<FrozenModels> load_frozen_models(const Recipe& recipe, const PairSetInfo& info,
                                                 at::Device device) {
  const auto load = [&](const ModelOptions& options, const ModelRecord& record, const char* role) {
    OpenModel opened = open_model(options, device);
    if (!record.weights.empty() && opened.model.fingerprint() != record.weights) {
      throw Error({.code = ExitCode::kInput,
                   .where = cat("pair.", role, ".name"),
                   .what = "not the model the pairs were generated with",
                   .got = cat(options.name, ", ", opened.model.fingerprint().substr(0, 16)),
                   .expected = cat(record.name, ", ", record.weights.substr(0, 16)),
                   .remedy = "generate the pairs again"});
    }
    return std::pair{std::move(opened.model), std::move(opened.files.tokenizer)};
  };
  auto [source, source_tokenizer] = load(recipe.pair.source, info.source, "source");
  auto [target, target_tokenizer] = load(recipe.pair.target, info.target, "target");
  auto models = std::make_unique<FrozenModels>(FrozenModels{std::move(source),
                                                            std::move(target),
                                                            std::move(source_tokenizer),
                                                            std::move(target_tokenizer),
                                                            {},
                                                            {}});
  FrozenModels& m = *models;
  const auto reader = [&](const CausalLM& model, const Tokenizer& tokenizer,
                          const ModelOptions& options) {
    return make_distillation_reader(tokenizer, options, recipe.data.chat, model.config().eos_ids,
                                    model.config().max_position_embeddings);
  };
  m.source_reader = reader(m.source, m.source_tokenizer, recipe.pair.source);
  m.target_reader = reader(m.target, m.target_tokenizer, recipe.pair.target);
  return models;
}

}  // namespace kvlingua
