#include "eval/conditions/condition.h"

#include "kvlingua/base/error.h"

namespace kvlingua {

Given after_span(const Block& block, size_t i, const KvCache& span, std::string made_of) {
  const Reader& target = block.target();
  Given given;
  given.past = KvCache::concat(target.prefix, span);
  given.tokens = block.item(i).rest;
  given.position = target.prefix_length() + span.tokens();
  given.made_of = std::move(made_of);
  given.bytes_moved = span.bytes();
  return given;
}

Given as_text(const Block& block, size_t i, const std::vector<int64_t>& span) {
  Given given;
  given.tokens = block.target().before;
  given.tokens.insert(given.tokens.end(), span.begin(), span.end());
  const auto& rest = span.empty() ? block.item(i).rest_alone : block.item(i).rest;
  given.tokens.insert(given.tokens.end(), rest.begin(), rest.end());
  return given;
}

}  // namespace kvlingua
