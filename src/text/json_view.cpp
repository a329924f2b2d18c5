#include "json_view.h"

#include <algorithm>
#include <vector>

namespace kvlingua::text {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;

// Builds the value while parsing, so that depth and repeated keys are seen as they come.
class Builder : public nlohmann::json_sax<json> {
 public:
  explicit Builder(const std::string& where) : where_(where) {}

  json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return open(json::object()); }
  bool start_array(size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto& members = *open_.back()->get_ptr<json::object_t*>();
    const auto [it, fresh] = members.emplace(std::move(name), nullptr);
    if (!fresh) fail("a key stands twice", printable(it->first));
    slot_ = &it->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const json::exception& error) override {
    std::string reason = error.what();
    const size_t cut = reason.rfind(": ");
    if (cut != std::string::npos) reason.erase(0, cut + 2);
    fail(cat("not JSON at byte ", position), printable(reason));
  }

 private:
  [[noreturn]] void fail(const std::string& what, const std::string& got) const {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = where_,
                 .what = what,
                 .got = got,
                 .remedy = "download the file again"});
  }

  json* place(json&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      auto& elements = *open_.back()->get_ptr<json::array_t*>();
      elements.push_back(std::move(value));
      return &elements.back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  template <class T>
  bool put(T&& value) {
    place(json(std::forward<T>(value)));
    return true;
  }

  bool open(json&& empty) {
    if (open_.size() >= kMaxDepth) fail("nested too deep", cat("more than ", kMaxDepth, " levels"));
    open_.push_back(place(std::move(empty)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& where_;
  json root_;
  std::vector<json*> open_;  // pointers stay valid: only the innermost container grows
  json* slot_ = nullptr;
};

std::string type_of(const json& value) { return value.type_name(); }

}  // namespace

json parse_json(std::string_view text, const std::string& where) {
  Builder builder(where);
  json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

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
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > INT64_MAX)
    corrupt("too large", value_->dump());
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
