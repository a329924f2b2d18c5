#include "kvlingua/bridge/open_model.h"

#include "kvlingua/base/error.h"
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
  CausalLM model = files.load_weights();
  return {std::move(files), std::move(model)};
}

ChatFamily chat_family_of(const ModelOptions& options, const Tokenizer& tokenizer) {
  if (options.chat.empty() || options.chat == "auto") return recognise_chat_family(tokenizer);
  if (const auto named = chat_family_from_name(options.chat)) return *named;
  throw Error({.code = ExitCode::kUsage,
               .where = cat("model ", printable(options.name), ": chat"),
               .what = "unknown chat template family",
               .got = printable(options.chat),
               .expected = "auto, qwen2.5, qwen3, smollm2, zephyr, llama3 or plain"});
}

ChatFrame chat_frame_of(const ModelOptions& options, const Tokenizer& tokenizer) {
  ChatOptions chat;
  chat.enable_thinking = options.thinking;
  return chat_frame(chat_family_of(options, tokenizer), options.system, chat);
}

}  // namespace kvlingua
