#include "eval/conditions/condition.h"

#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

const KvCache* prefix_of(const Reader& reader) {
  return reader.prefix.empty() ? nullptr : &reader.prefix;
}

}  // namespace

Given after_span(const Block& block, size_t i, const KvCache& span, std::string made_of) {
  const Reader& target = block.target();
  Given given;
  given.before = prefix_of(target);
  given.past = span;
  given.tokens = block.item(i).rest;
  given.position = target.prefix_length() + (span.empty() ? 0 : span.tokens());
  given.made_of = std::move(made_of);
  given.bytes_moved = span.bytes();
  return given;
}

Given as_text(const Block& block, size_t i, const std::vector<int64_t>& span) {
  const Reader& target = block.target();
  Given given;
  given.before = prefix_of(target);
  given.span = span;
  given.tokens = span.empty() ? block.item(i).rest_alone : block.item(i).rest;
  given.position = target.prefix_length() + static_cast<int64_t>(span.size());
  return given;
}

}  // namespace kvlingua
