#include "kvlingua/bridge/open_model.h"

#include "kvlingua/base/clock.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/progress.h"
#include "kvlingua/cache/device.h"
#include "kvlingua/config/paths.h"
#include "kvlingua/io/hub.h"

namespace kvlingua {

namespace fs = std::filesystem;

fs::path locate_model(const ModelOptions& options) {
  return resolve_model(resolve_path(options.name), options.revision);
}

ModelFiles find_model(const ModelOptions& options, at::Device device) {
  const fs::path directory = locate_model(options);
  const ModelConfig config = ModelConfig::from_directory(directory);
  return {.options = options,
          .directory = directory,
          .config = config,
          .tokenizer = Tokenizer::from_directory(directory),
          .load = {.device = device,
                   .dtype = resolve_dtype(options.dtype, device, config.parameter_count()),
                   .layer_streaming = options.layer_streaming,
                   .weights = weight_options(options.weights, options.double_quantization)}};
}

OpenModel open_model(const ModelOptions& options, at::Device device) {
  ModelFiles files = find_model(options, device);
  const double start = wall_seconds();
  CausalLM model = files.load_weights();
  log_debug(cat("model ", files.directory.string(), ": ", to_string(files.config.architecture),
                ", ", at::toString(model.dtype()), " on ", device.str(), ", ",
                bytes_text(static_cast<double>(model.weight_bytes())), " of weights, fingerprint ",
                model.fingerprint(), ", loaded in ", duration_text(wall_seconds() - start)));
  return {std::move(files), std::move(model)};
}

}  // namespace kvlingua
