// Values of a running template, and what may be done with them as Python does it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tree.h"

namespace kvlingua::text::jinja {

struct Value;
struct Call {
  std::vector<Value> positional;
  std::map<std::string, Value> named;
};
using Function = std::function<Value(Call&)>;

// JSON, or one of the things that templates have besides: undefined, a namespace, a function.
struct Value {
  Json json;
  bool undefined = false;
  std::shared_ptr<std::map<std::string, Value>> space;
  std::shared_ptr<Function> function;

  static Value none_such() {
    Value v;
    v.undefined = true;
    return v;
  }
  static Value of(Json j) {
    Value v;
    v.json = std::move(j);
    return v;
  }
  bool plain() const { return !undefined && !space && !function; }
  bool is_string() const { return plain() && json.is_string(); }
  const std::string& string() const {
    if (!is_string()) refuse("a string was expected");
    return json.get_ref<const std::string&>();
  }
  bool truth() const {
    if (undefined) return false;
    if (space || function) return true;
    switch (json.type()) {
      case Json::value_t::null:
        return false;
      case Json::value_t::boolean:
        return json.get<bool>();
      case Json::value_t::string:
        return !json.get_ref<const std::string&>().empty();
      case Json::value_t::array:
      case Json::value_t::object:
        return !json.empty();
      default:
        return json.get<double>() != 0;
    }
  }
};

// Each throws Error (kInput) for a value of another kind.
int64_t integer_of(const Value& v);
double number_of(const Value& v);
std::string text_of(const Value& v);  // as it is printed
Json plain(const Value& v);           // without undefined, namespaces and functions
std::vector<Value> items_of(const Value& v);
Value listed(const Value& v);
std::optional<std::string> text_argument(const Call& call, size_t i);

bool equal(const Value& a, const Value& b);
bool holds(const Value& container, const Value& item);
Value binary(const std::string& op, const Value& a, const Value& b);
Value attribute(const Value& of, const std::string& name);
Value index(const Value& of, const Value& key);
Value method(const Value& of, const std::string& name, const Call& call);

// Texts as Python's methods of str cut and change them; only ASCII letters change their case.
std::string strip(std::string_view text, const std::optional<std::string>& chars, bool left,
                  bool right);
std::string case_of(std::string text, bool upper);
std::string capitalised(const std::string& text, bool each_word);
std::vector<std::string> characters(const std::string& text);
Json split(const std::string& text, const std::optional<std::string>& by, int64_t most);
std::string replaced(const std::string& text, const std::string& from, const std::string& to);

// json.dumps as transformers' tojson calls it: ", " and ": ", or indented, non-ASCII as it is.
void dump_python(const Json& j, int indent, int level, std::string& out);

}  // namespace kvlingua::text::jinja
