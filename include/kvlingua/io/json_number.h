// Whole numbers out of JSON that nobody vouches for.
//
// nlohmann's get<int64_t>() cuts fractions off, and of 1e300 its result is undefined.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace kvlingua {

// Throws nlohmann::json::type_error, as get() does for a text, for whatever is no whole number that
// int64 holds.
template <class Json>
int64_t whole_number(const Json& value) {
  const bool fits = value.is_number_unsigned()
                        ? value.template get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                        : value.is_number_integer();
  if (!fits)
    throw nlohmann::json::type_error::create(
        302, std::string("type must be a whole number, but is ") + value.type_name(), nullptr);
  return value.template get<int64_t>();
}

}  // namespace kvlingua
