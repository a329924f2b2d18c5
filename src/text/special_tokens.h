// Tokens that tokenizer_config.json and its older companions name besides tokenizer.json: what
// transformers (5.x, TokenizersBackend) adds to a tokenizer when it loads a directory.
#pragma once

#include <optional>
#include <vector>

#include "added_tokens.h"
#include "json_view.h"

namespace kvlingua::text {

struct NamedToken {
  AddedToken token;
  std::optional<int64_t> id;     // where the file says it stands
  bool only_if_missing = false;  // a special token: added where no added token has its text
};

// In the order in which they are added: added_tokens_decoder by id, then the special tokens by
// name, then the extra ones. `map` is special_tokens_map.json and `added` added_tokens.json, which
// count where the config has no added_tokens_decoder.
std::vector<NamedToken> named_tokens(const JsonView& config, const std::optional<JsonView>& map,
                                     const std::optional<JsonView>& added);

}  // namespace kvlingua::text
