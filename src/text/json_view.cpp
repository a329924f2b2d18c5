#include "json_view.h"

#include <algorithm>

#include "kvlingua/io/json_number.h"

namespace kvlingua::text {
namespace {

using nlohmann::json;

std::string type_of(const json& value) { return value.type_name(); }

}  // namespace

std::optional<JsonView> JsonView::find(const char* key) const {
  if (!value_->is_object()) corrupt("wrong type", type_of(*value_), "an object");
  const auto it = value_->find(key);
  if (it == value_->end() || it->is_null()) return std::nullopt;
  return JsonView(*it, cat(where_, where_.ends_with(": ") ? "" : ".", key));
}

JsonView JsonView::at(const char* key) const {
  const auto member = find(key);
  if (!member) corrupt("missing", {}, cat("a member ", key));
  return *member;
}

JsonView JsonView::element(size_t index) const {
  return {(*value_)[index], cat(where_, "[", index, "]")};
}

bool JsonView::boolean(const char* key, std::optional<bool> otherwise) const {
  const auto member = find(key);
  if (!member && otherwise) return *otherwise;
  if (!member) corrupt("missing", {}, cat("a member ", key));
  if (!member->value().is_boolean())
    member->corrupt("wrong type", type_of(member->value()), "true or false");
  return member->value().get<bool>();
}

const std::string& JsonView::string(const char* key) const {
  const JsonView member = at(key);
  return member.string();
}

const std::string& JsonView::string() const {
  if (!value_->is_string()) corrupt("wrong type", type_of(*value_), "a string");
  return *value_->get_ptr<const std::string*>();
}

size_t JsonView::array_size() const {
  if (!value_->is_array()) corrupt("wrong type", type_of(*value_), "an array");
  return value_->size();
}

int64_t JsonView::integer() const {
  if (!value_->is_number_integer()) corrupt("wrong type", type_of(*value_), "an integer");
  if (!is_whole_number(*value_)) corrupt("too large", value_->dump());
  return value_->get<int64_t>();
}

void JsonView::only(std::initializer_list<std::string_view> known) const {
  if (!value_->is_object()) corrupt("wrong type", type_of(*value_), "an object");
  for (const auto& [key, member] : value_->items()) {
    if (std::find(known.begin(), known.end(), key) == known.end())
      unsupported(cat("member ", printable(key, 40)));
  }
}

void JsonView::corrupt(const std::string& what, const std::string& got,
                       const std::string& expected) const {
  throw Error({.code = ExitCode::kCorrupt,
               .where = where_,
               .what = what,
               .got = got,
               .expected = expected});
}

void JsonView::unsupported(const std::string& what, const std::string& expected) const {
  throw Error({.code = ExitCode::kInput,
               .where = where_,
               .what = cat("not supported: ", what),
               .expected = expected});
}

}  // namespace kvlingua::text
