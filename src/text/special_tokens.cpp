#include "special_tokens.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>
#include <string>

namespace kvlingua::text {
namespace {

constexpr std::array kNames = {"bos_token", "eos_token", "unk_token", "sep_token",
                               "pad_token", "cls_token", "mask_token"};

// A token as a word, or as an object with its rules.
AddedToken read_token(const JsonView& json, bool special) {
  AddedToken token;
  token.special = special;
  if (json.value().is_string()) {
    token.content = json.string();
    token.normalized = !special;
  } else {
    token.content = json.string("content");
    token.single_word = json.boolean("single_word", false);
    token.lstrip = json.boolean("lstrip", false);
    token.rstrip = json.boolean("rstrip", false);
    token.special = json.boolean("special", special);
    token.normalized = json.boolean("normalized", !token.special);
  }
  if (token.content.empty()) json.corrupt("a token without text");
  if (token.content.size() > 1024) json.corrupt("too long", cat(token.content.size(), " bytes"));
  return token;
}

int64_t id_of(const std::string& key, const JsonView& json) {
  int64_t id = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || end != key.data() + key.size() || id < 0)
    json.corrupt("not a token's number", printable(key, 40));
  return id;
}

void add_decoder(const JsonView& decoder, std::vector<NamedToken>& out) {
  if (!decoder.value().is_object()) decoder.corrupt("wrong type", {}, "an object");
  std::map<int64_t, AddedToken> by_id;
  for (const auto& [key, value] : decoder.value().items()) {
    const JsonView one(value, cat(decoder.where(), ".", printable(key, 40)));
    by_id.emplace(id_of(key, one), read_token(one, false));
  }
  for (auto& [id, token] : by_id) out.push_back({std::move(token), id, false});
}

// A named token that is one of added_tokens_decoder's keeps the rules it has there.
void add_special(const JsonView& json, std::vector<NamedToken>& out) {
  AddedToken token = read_token(json, true);
  token.special = true;
  out.push_back({std::move(token), std::nullopt, true});
}

void add_list(const JsonView& json, std::vector<NamedToken>& out) {
  if (json.value().is_object() && !json.value().contains("content")) {
    for (const auto& [key, value] : json.value().items())
      add_special(JsonView(value, cat(json.where(), ".", printable(key, 40))), out);
    return;
  }
  for (size_t i = 0; i < json.array_size(); ++i) add_special(json.element(i), out);
}

bool is_filled(const std::optional<JsonView>& json) { return json && !json->value().empty(); }

}  // namespace

std::vector<NamedToken> named_tokens(const JsonView& config, const std::optional<JsonView>& map,
                                     const std::optional<JsonView>& added) {
  std::vector<NamedToken> out;
  const auto decoder = config.find("added_tokens_decoder");
  const bool legacy = !decoder;
  // special_tokens_map.json wins over the config, which it is older than.
  const auto find = [&](const char* key) {
    auto found = legacy && map ? map->find(key) : std::nullopt;
    return found ? found : config.find(key);
  };
  std::vector<NamedToken> special;
  for (const char* name : kNames) {
    if (const auto token = find(name)) add_special(*token, special);
  }
  for (const JsonView* file : {&config, legacy && map ? &*map : nullptr}) {
    if (file == nullptr || !file->value().is_object()) continue;
    for (const auto& [key, value] : file->value().items()) {
      const bool other = std::find(kNames.begin(), kNames.end(), key) == kNames.end();
      if (other && key.ends_with("_token") && value.is_string())
        add_special(JsonView(value, cat(file->where(), printable(key, 40))), special);
    }
  }
  auto extra = find("extra_special_tokens");
  if (!is_filled(extra)) extra = find("additional_special_tokens");
  if (is_filled(extra)) add_list(*extra, special);

  if (decoder) add_decoder(*decoder, out);
  if (legacy && added) {
    std::set<std::string> names;
    for (const NamedToken& one : special) names.insert(one.token.content);
    std::map<int64_t, AddedToken> by_id;
    if (!added->value().is_object()) added->corrupt("wrong type", {}, "an object");
    for (const auto& [content, value] : added->value().items()) {
      AddedToken token;
      token.content = content;
      token.special = names.contains(content);
      token.normalized = !token.special;
      by_id.emplace(JsonView(value, cat(added->where(), printable(content, 40))).integer(),
                    std::move(token));
    }
    for (auto& [id, token] : by_id) out.push_back({std::move(token), id, true});
  }
  out.insert(out.end(), special.begin(), special.end());
  return out;
}

}  // namespace kvlingua::text
