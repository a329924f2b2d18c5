#include "trainers/stages/frozen_models.h"

#include "kvlingua/base/error.h"

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
    return opened;
  };
  auto models =
      std::make_unique<FrozenModels>(FrozenModels{load(recipe.pair.source, info.source, "source"),
                                                  load(recipe.pair.target, info.target, "target"),
                                                  {},
                                                  {}});
  const auto reader = [&](const OpenModel& opened) {
    return Reader::make(
        opened.model,
        TextReader::of(opened.tokenizer(), opened.files.options, opened.model.config(),
                       recipe.data.chat ? Framing::kOneTurn : Framing::kNone));
  };
  models->source_reader = reader(models->source);
  models->target_reader = reader(models->target);
  return models;
}

}  // namespace kvlingua
