// Reading JSON from strangers: bounded depth, no key twice, and errors that name the file and the
// place in it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "kvlingua/base/error.h"
#include "kvlingua/io/json.h"

namespace kvlingua::text {

using kvlingua::parse_json;

// A value and the way to it. Throws Error (kCorrupt) where the value is not what is asked for.
class JsonView {
 public:
  JsonView(const nlohmann::json& value, std::string where)
      : value_(&value), where_(std::move(where)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& where() const { return where_; }

  // The member of that name; absent and null are the same.
  std::optional<JsonView> find(const char* key) const;
  JsonView at(const char* key) const;  // must be there
  JsonView element(size_t index) const;

  bool boolean(const char* key, std::optional<bool> otherwise = std::nullopt) const;
  const std::string& string(const char* key) const;
  const std::string& string() const;
  size_t array_size() const;  // must be an array
  int64_t integer() const;    // must be an integer that fits

  // Throws Error (kInput) for a member that is not listed: what a file asks for is never passed
  // over in silence.
  void only(std::initializer_list<std::string_view> known) const;

  [[noreturn]] void corrupt(const std::string& what, const std::string& got = {},
                            const std::string& expected = {}) const;
  [[noreturn]] void unsupported(const std::string& what, const std::string& expected = {}) const;

 private:
  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace kvlingua::text
