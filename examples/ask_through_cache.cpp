// Asks one model about a text that only another model has read.
//
//   ask_through_cache SOURCE TARGET CHECKPOINT "context" "question"
#include <kvlingua/base/error.h>
#include <kvlingua/bridge/cache_bridge.h>

#include <iostream>

#include "checkpoints/load_projector.h"

int main(int argc, char** argv) try {
  if (argc != 6) {
    std::cerr << "usage: ask_through_cache SOURCE TARGET CHECKPOINT \"context\" \"question\"\n";
    return 2;
  }
  // Directories, or names in the local Hugging Face cache. A second argument puts them on a GPU.
  const kvlingua::OpenModel source = kvlingua::open_model({.name = argv[1]});
  const kvlingua::OpenModel target = kvlingua::open_model({.name = argv[2]});
  const kvlingua::LoadedProjector loaded = kvlingua::load_projector(argv[3]);
  loaded.check_models(source.model, target.model);

  // The source reads; its cache becomes one that the target could have made of the same text.
  const kvlingua::CacheBridge bridge(source, target, *loaded.projector);
  const auto context = bridge.read(argv[4]);
  std::cerr << context.source_tokens << " tokens read, " << context.bytes << " bytes translated\n";

  // The target has not seen the text. It answers, word by word.
  bridge.ask(context, argv[5], {.on_text = [](std::string_view piece) {
               std::cout << piece << std::flush;
               return true;
             }});
  std::cout << "\n";
} catch (const kvlingua::Error& error) {
  std::cerr << error.what() << "\n";
  return static_cast<int>(error.code());
}
