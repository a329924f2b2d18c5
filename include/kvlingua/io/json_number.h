// Numbers and members out of JSON that nobody vouches for, and what is said of those that are none.
//
// nlohmann's get<int64_t>() cuts fractions off, and of 1e300 its result is undefined. The one check
// of whole numbers in this program: everything that reads one from JSON goes through it.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "kvlingua/base/error.h"

namespace kvlingua {

// A value that its field cannot hold, in parts. One of nlohmann's exceptions, so that who catches
// those catches it too.
class JsonFieldError : public nlohmann::json::exception {
 public:
  JsonFieldError(std::string got, std::string expected);

  // Says which member it stands in; from the inside out: "rows", then "validation".
  void within(const std::string& member);
  const char* what() const noexcept override { return text_.c_str(); }
  const std::string& field() const { return field_; }  // "results[0].validation.rows", or empty
  const std::string& got() const { return got_; }
  const std::string& expected() const { return expected_; }

 private:
  std::string field_, got_, expected_, text_;
};

// Whether `value` is a whole number from `least` to `most`.
template <class Json>
bool is_whole_number(const Json& value, int64_t least = INT64_MIN, int64_t most = INT64_MAX) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.template get<uint64_t>() > uint64_t{INT64_MAX})
    return false;
  const auto number = value.template get<int64_t>();
  return number >= least && number <= most;
}

// Throws JsonFieldError for whatever is no whole number from `least` to `most`.
template <class Json>
int64_t whole_number(const Json& value, int64_t least = INT64_MIN, int64_t most = INT64_MAX) {
  if (!is_whole_number(value, least, most))
    throw JsonFieldError(printable(value.dump(), 60),
                         least == INT64_MIN && most == INT64_MAX
                             ? std::string("a whole number")
                             : cat("a whole number from ", least, " to ", most));
  return value.template get<int64_t>();
}

// A count: more than 2^53, which a double holds exactly, nothing here reaches.
template <class Json>
int64_t count_of(const Json& value) {
  return whole_number(value, 0, int64_t{1} << 53);
}

// JSON has no NaN: it is written as null. Throws JsonFieldError for what is no number.
template <class Json>
double number_or_nan(const Json& value) {
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (!value.is_number()) throw JsonFieldError(printable(value.dump(), 60), "a number, or null");
  return value.template get<double>();
}

// Throws JsonFieldError for what is no number from `least` to `most`.
double number_within(const nlohmann::json& value, double least, double most);

// nlohmann's "[json.exception.type_error.302] type must be ..." without its bracketed identifier.
std::string json_reason(const nlohmann::json::exception& error);

// What `read` makes of a member; whatever it throws of JSON's errors names the member.
template <class Read>
auto read_member(const nlohmann::json& object, const std::string& name, const Read& read) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  try {
    if (!object.is_object()) throw JsonFieldError(object.type_name(), "an object");
    if (found == object.end()) throw JsonFieldError("none", "the member");
    return read(*found);
  } catch (JsonFieldError& error) {
    error.within(name);
    throw;
  } catch (const nlohmann::json::exception& error) {
    JsonFieldError named(printable(found->dump(), 60), json_reason(error));
    named.within(name);
    throw named;
  }
}

// What `read` makes of each element of a list; whatever it throws names the element: "[2]". Throws
// JsonFieldError for what is no list.
template <class Read>
void read_elements(const nlohmann::json& list, const Read& read) {
  if (!list.is_array()) throw JsonFieldError(printable(list.dump(), 60), "a list");
  for (size_t i = 0; i < list.size(); ++i) {
    try {
      read(list[i]);
    } catch (JsonFieldError& error) {
      error.within(cat("[", i, "]"));
      throw;
    }
  }
}

// A text of at most 64 KiB.
std::string text_of_json(const nlohmann::json& value);

// The error as this program's own: kCorrupt, naming file and field, with what was got and expected.
Error corrupt_field(const nlohmann::json::exception& error, const std::string& where,
                    std::string what, std::string remedy);

}  // namespace kvlingua
