#include "value.h"

#include <algorithm>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/io/json_number.h"

namespace kvlingua::text::jinja {

int64_t integer_of(const Value& v) {
  if (v.plain() && v.json.is_boolean()) return v.json.get<bool>() ? 1 : 0;
  if (!v.plain() || !is_whole_number(v.json)) refuse("a whole number was expected");
  return v.json.get<int64_t>();
}

double number_of(const Value& v) {
  if (v.plain() && v.json.is_boolean()) return v.json.get<bool>() ? 1 : 0;
  if (!v.plain() || !v.json.is_number()) refuse("a number was expected");
  return v.json.get<double>();
}

std::string text_of(const Value& v) {
  if (v.undefined) return {};
  if (!v.plain()) refuse("something without a text is printed");
  switch (v.json.type()) {
    case Json::value_t::string:
      return v.json.get<std::string>();
    case Json::value_t::null:
      return "None";
    case Json::value_t::boolean:
      return v.json.get<bool>() ? "True" : "False";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return v.json.dump();
    default:
      refuse("a value is printed in Python's own way", v.json.type_name());
  }
}

void dump_python(const Json& j, int indent, int level, std::string& out) {
  const auto line = [&](int deep) {
    if (indent >= 0) out += "\n" + std::string(static_cast<size_t>(indent * deep), ' ');
  };
  if (!j.is_structured()) {
    out += j.dump(-1, ' ', false, Json::error_handler_t::replace);
    return;
  }
  if (level > kDeepest) refuse("a value nests too deep");
  const bool object = j.is_object();
  out += object ? '{' : '[';
  bool first = true;
  for (const auto& [key, member] : j.items()) {
    if (!std::exchange(first, false)) out += indent >= 0 ? "," : ", ";
    line(level + 1);
    if (object) out += Json(key).dump() + ": ";
    dump_python(member, indent, level + 1, out);
  }
  if (!j.empty()) line(level);
  out += object ? '}' : ']';
}

Json plain(const Value& v) {
  if (!v.plain()) refuse("a list or dict of what is no plain value");
  return v.json;
}

bool equal(const Value& a, const Value& b) {
  if (a.undefined || b.undefined) return a.undefined && b.undefined;
  return a.plain() && b.plain() && a.json == b.json;
}

bool holds(const Value& container, const Value& item) {
  if (container.undefined) return false;
  if (!container.plain()) refuse("in of what is no list");
  if (container.json.is_string())
    return container.string().find(item.string()) != std::string::npos;
  if (container.json.is_object()) return item.is_string() && container.json.contains(item.string());
  if (!container.json.is_array()) refuse("in of what is no list", container.json.type_name());
  return item.plain() &&
         std::find(container.json.begin(), container.json.end(), item.json) != container.json.end();
}

// Doubled sixty times a line is an exabyte: what is longer than any output may be is no text.
std::string joined_text(const std::string& a, const std::string& b) {
  if (a.size() + b.size() > kLongestOutput) refuse("makes too long a text");
  return a + b;
}

Value binary(const std::string& op, const Value& a, const Value& b) {
  if (op == "==") return Value::of(equal(a, b));
  if (op == "!=") return Value::of(!equal(a, b));
  if (op == "in") return Value::of(holds(b, a));
  if (op == "not in") return Value::of(!holds(b, a));
  if (op == "~") return Value::of(joined_text(text_of(a), text_of(b)));
  if (a.is_string() && b.is_string()) {
    if (op == "+") return Value::of(joined_text(a.string(), b.string()));
    const int order = a.string().compare(b.string());
    if (op == "<") return Value::of(order < 0);
    if (op == ">") return Value::of(order > 0);
    if (op == "<=") return Value::of(order <= 0);
    if (op == ">=") return Value::of(order >= 0);
  }
  if (op == "+" && a.plain() && b.plain() && a.json.is_array() && b.json.is_array()) {
    if (a.json.size() + b.json.size() > kLongestList) refuse("makes too long a list");
    Json joined = a.json;
    joined.insert(joined.end(), b.json.begin(), b.json.end());
    return Value::of(std::move(joined));
  }
  const double x = number_of(a), y = number_of(b);
  if (op == "<") return Value::of(x < y);
  if (op == ">") return Value::of(x > y);
  if (op == "<=") return Value::of(x <= y);
  if (op == ">=") return Value::of(x >= y);
  if (op == "/") {
    if (y == 0) refuse("a division by zero");
    return Value::of(x / y);
  }
  if (a.json.is_number_float() || b.json.is_number_float()) {
    if (op == "+") return Value::of(x + y);
    if (op == "-") return Value::of(x - y);
    if (op == "*") return Value::of(x * y);
    refuse("an operation on fractions", op);
  }
  const int64_t i = integer_of(a), j = integer_of(b);
  int64_t r = 0;
  bool over = false;
  if (op == "+") over = __builtin_add_overflow(i, j, &r);
  if (op == "-") over = __builtin_sub_overflow(i, j, &r);
  if (op == "*") over = __builtin_mul_overflow(i, j, &r);
  if (op == "%" || op == "//") {
    if (j == 0 || (i == INT64_MIN && j == -1)) refuse("a division by zero");
    const int64_t rest = ((i % j) + j) % j;  // as Python's: of the divisor's sign
    r = op == "%" ? rest : (i - rest) / j;
  } else if (op != "+" && op != "-" && op != "*") {
    refuse("an operator that is not understood", op);
  }
  if (over) refuse("a number that is too large");
  return Value::of(r);
}

Value attribute(const Value& of, const std::string& name) {
  if (of.undefined) refuse("a member of something undefined", name);
  if (of.space) {
    const auto found = of.space->find(name);
    return found == of.space->end() ? Value::none_such() : found->second;
  }
  if (of.plain() && of.json.is_object() && of.json.contains(name)) return Value::of(of.json[name]);
  return Value::none_such();
}

Value index(const Value& of, const Value& key) {
  if (of.undefined) refuse("an element of something undefined");
  if (key.is_string()) return attribute(of, key.string());
  if (!of.plain() || key.undefined) return Value::none_such();
  const int64_t i = integer_of(key);
  if (of.json.is_string()) {
    const auto all = characters(of.string());
    const auto n = static_cast<int64_t>(all.size()), at = i < 0 ? i + n : i;
    return at < 0 || at >= n ? Value::none_such() : Value::of(all[static_cast<size_t>(at)]);
  }
  if (!of.json.is_array()) return Value::none_such();
  const auto n = static_cast<int64_t>(of.json.size()), at = i < 0 ? i + n : i;
  return at < 0 || at >= n ? Value::none_such() : Value::of(of.json[static_cast<size_t>(at)]);
}

std::optional<std::string> text_argument(const Call& call, size_t i) {
  if (i >= call.positional.size()) return std::nullopt;
  const Value& v = call.positional[i];
  if (v.plain() && v.json.is_null()) return std::nullopt;
  return v.string();
}

Value method(const Value& of, const std::string& name, const Call& call) {
  if (of.json.is_string()) {
    const std::string& s = of.string();
    if (name == "strip") return Value::of(strip(s, text_argument(call, 0), true, true));
    if (name == "lstrip") return Value::of(strip(s, text_argument(call, 0), true, false));
    if (name == "rstrip") return Value::of(strip(s, text_argument(call, 0), false, true));
    if (name == "split") {
      const int64_t most = call.positional.size() > 1 ? integer_of(call.positional[1]) : -1;
      return Value::of(split(s, text_argument(call, 0), most));
    }
    if (name == "startswith" || name == "endswith") {
      const auto part = text_argument(call, 0);
      if (!part || call.positional.size() > 1) refuse("arguments of " + name);
      return Value::of(name == "startswith" ? s.starts_with(*part) : s.ends_with(*part));
    }
    if (name == "replace") {
      const auto from = text_argument(call, 0), to = text_argument(call, 1);
      if (!from || !to || call.positional.size() > 2) refuse("arguments of replace");
      return Value::of(replaced(s, *from, *to));
    }
    if (name == "upper" || name == "lower") return Value::of(case_of(s, name == "upper"));
    if (name == "title" || name == "capitalize") return Value::of(capitalised(s, name == "title"));
  }
  if (of.json.is_object()) {
    if (name == "items") {
      Json out = Json::array();
      for (const auto& [key, value] : of.json.items()) out.push_back({key, value});
      return Value::of(std::move(out));
    }
    if (name == "keys" || name == "values") {
      Json out = Json::array();
      for (const auto& [key, value] : of.json.items())
        name == "keys" ? out.push_back(key) : out.push_back(value);
      return Value::of(std::move(out));
    }
    if (name == "get") {
      const auto key = text_argument(call, 0);
      if (!key) refuse("arguments of get");
      if (of.json.contains(*key)) return Value::of(of.json[*key]);
      return call.positional.size() > 1 ? call.positional[1] : Value::of(nullptr);
    }
  }
  refuse("a method that is not understood", printable(name, 40));
}

std::vector<Value> items_of(const Value& v) {
  std::vector<Value> items;
  if (v.undefined) return items;
  if (!v.plain()) refuse("a loop over what is no list");
  if (v.json.is_string()) {
    for (std::string& c : characters(v.string())) items.push_back(Value::of(std::move(c)));
  } else if (v.json.is_array()) {
    for (const Json& j : v.json) items.push_back(Value::of(j));
  } else if (v.json.is_object()) {
    for (const auto& [key, member] : v.json.items()) items.push_back(Value::of(key));
  } else {
    refuse("a loop over what is no list", v.json.type_name());
  }
  return items;
}

Value listed(const Value& v) {
  Json out = Json::array();
  for (const Value& item : items_of(v)) out.push_back(plain(item));
  return Value::of(std::move(out));
}

}  // namespace kvlingua::text::jinja
