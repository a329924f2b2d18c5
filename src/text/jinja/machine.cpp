#include "machine.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "kvlingua/base/error.h"
#include "value.h"

namespace kvlingua::text::jinja {
namespace {

enum class Flow { kGoOn, kBreak, kContinue };

class Machine {
 public:
  explicit Machine(const Json& variables) {
    scopes_.emplace_back();
    for (const auto& [key, value] : variables.items()) scopes_[0][key] = Value::of(value);
    global("namespace", [](Call& call) {
      Value v;
      v.space = std::make_shared<std::map<std::string, Value>>(call.named);
      return v;
    });
    global("raise_exception", [](Call& call) -> Value {
      refuse("the template refuses",
             call.positional.empty() ? "" : printable(text_of(call.positional[0])));
    });
    global("range", [](Call& call) {
      Json out = Json::array();
      const auto n = call.positional.size();
      if (n < 1 || n > 3) refuse("range with so many arguments");
      const int64_t begin = n > 1 ? integer_of(call.positional[0]) : 0,
                    end = integer_of(call.positional[n > 1 ? 1 : 0]),
                    step = n > 2 ? integer_of(call.positional[2]) : 1;
      if (step == 0) refuse("range with step 0");
      for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
        if (out.size() > 100000) refuse("a range that is too long");
        out.push_back(i);
      }
      return Value::of(std::move(out));
    });
    global("dict", [](Call& call) {
      Json out = Json::object();
      for (const auto& [key, value] : call.named) out[key] = value.json;
      return Value::of(std::move(out));
    });
  }

  Flow run(const Block& block, std::string& out) {
    if (++depth_ > kDeepest) refuse("calls nest too deep");
    Flow flow = Flow::kGoOn;
    for (const NodePtr& node : block) {
      flow = run(*node, out);
      if (flow != Flow::kGoOn) break;
    }
    --depth_;
    return flow;
  }

 private:
  void global(const std::string& name, Function function) {
    Value v;
    v.function = std::make_shared<Function>(std::move(function));
    scopes_[0].emplace(name, std::move(v));
  }

  void step() {
    if (++steps_ > kMostSteps) refuse("takes too long to render");
  }

  void print(std::string& out, std::string_view text) const {
    if (out.size() + text.size() > kLongestOutput) refuse("renders too much");
    out += text;
  }

  Flow run(const Node& node, std::string& out) {
    step();
    switch (node.kind) {
      case Node::kText:
        print(out, node.text);
        return Flow::kGoOn;
      case Node::kPrint:
        print(out, text_of(eval(*node.value)));
        return Flow::kGoOn;
      case Node::kIf:
        for (const auto& [condition, body] : node.branches) {
          if (eval(*condition).truth()) return run(body, out);
        }
        return run(node.otherwise, out);
      case Node::kFor:
        return loop(node, out);
      case Node::kSet:
        assign(node, eval(*node.value));
        return Flow::kGoOn;
      case Node::kSetBlock: {
        std::string text;
        run(node.body, text);
        assign(node, Value::of(text));
        return Flow::kGoOn;
      }
      case Node::kMacro:
        define(node);
        return Flow::kGoOn;
      case Node::kBreak:
        return Flow::kBreak;
      case Node::kContinue:
        return Flow::kContinue;
      case Node::kScope:
        return run(node.body, out);
    }
    return Flow::kGoOn;
  }

  void assign(const Node& node, Value value) {
    if (node.attribute.empty()) {
      scopes_.back()[node.text] = std::move(value);
      return;
    }
    const Value space = lookup(node.text);
    if (!space.space) refuse("an attribute is set of what is no namespace", node.text);
    (*space.space)[node.attribute] = std::move(value);
  }

  void define(const Node& node) {
    Value macro;
    macro.function = std::make_shared<Function>([this, &node](Call& call) {
      std::map<std::string, Value> scope;
      for (size_t i = 0; i < node.names.size(); ++i) {
        const std::string& name = node.names[i];
        if (i < call.positional.size()) {
          scope[name] = call.positional[i];
        } else if (const auto given = call.named.find(name); given != call.named.end()) {
          scope[name] = given->second;
        } else {
          scope[name] = Value::none_such();
          for (const auto& [key, value] : node.defaults)
            if (key == name) scope[name] = eval(*value);
        }
      }
      if (call.positional.size() > node.names.size()) refuse("a macro gets too many arguments");
      // A macro sees what is global, not where it is called from.
      std::vector<std::map<std::string, Value>> outside;
      outside.swap(scopes_);
      scopes_ = {outside[0], std::move(scope)};
      std::string text;
      run(node.body, text);
      scopes_.swap(outside);
      return Value::of(text);
    });
    scopes_.back()[node.text] = std::move(macro);
  }

  Flow loop(const Node& node, std::string& out) {
    std::vector<Value> items = items_of(eval(*node.value));
    const auto bind = [&](const Value& item) {
      if (node.names.size() == 1) {
        scopes_.back()[node.names[0]] = item;
        return;
      }
      if (!item.plain() || !item.json.is_array() || item.json.size() != node.names.size())
        refuse("an item that cannot be unpacked");
      for (size_t k = 0; k < node.names.size(); ++k)
        scopes_.back()[node.names[k]] = Value::of(item.json[k]);
    };
    if (node.filter) {
      std::vector<Value> kept;
      for (Value& item : items) {
        scopes_.emplace_back();
        bind(item);
        if (eval(*node.filter).truth()) kept.push_back(std::move(item));
        scopes_.pop_back();
      }
      items = std::move(kept);
    }
    if (items.empty()) return run(node.otherwise, out);
    const auto count = static_cast<int64_t>(items.size());
    for (int64_t i = 0; i < count; ++i) {
      scopes_.emplace_back();
      bind(items[static_cast<size_t>(i)]);
      Value about;
      about.space = std::make_shared<std::map<std::string, Value>>();
      auto& l = *about.space;
      l["index"] = Value::of(i + 1);
      l["index0"] = Value::of(i);
      l["revindex"] = Value::of(count - i);
      l["revindex0"] = Value::of(count - i - 1);
      l["first"] = Value::of(i == 0);
      l["last"] = Value::of(i + 1 == count);
      l["length"] = Value::of(count);
      l["previtem"] = i > 0 ? items[static_cast<size_t>(i) - 1] : Value::none_such();
      l["nextitem"] = i + 1 < count ? items[static_cast<size_t>(i) + 1] : Value::none_such();
      scopes_.back()["loop"] = std::move(about);
      const Flow flow = run(node.body, out);
      scopes_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    return Flow::kGoOn;
  }

  Value lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    }
    return Value::none_such();
  }

  Value eval(const Expr& e) {
    step();
    if (++depth_ > 4 * kDeepest) refuse("an expression nests too deep");
    Value v = eval_inner(e);
    --depth_;
    return v;
  }

  Value eval_inner(const Expr& e) {
    const auto part = [&](size_t i) { return eval(*e.parts[i]); };
    switch (e.kind) {
      case Expr::kLiteral:
        return Value::of(e.literal);
      case Expr::kName:
        return lookup(e.name);
      case Expr::kList: {
        Json out = Json::array();
        for (size_t i = 0; i < e.parts.size(); ++i) out.push_back(plain(part(i)));
        return Value::of(std::move(out));
      }
      case Expr::kDict: {
        Json out = Json::object();
        for (size_t i = 0; i + 1 < e.parts.size(); i += 2)
          out[part(i).string()] = plain(part(i + 1));
        return Value::of(std::move(out));
      }
      case Expr::kAttribute:
        return attribute(part(0), e.name);
      case Expr::kIndex:
        return index(part(0), part(1));
      case Expr::kSlice:
        return slice(e);
      case Expr::kCall:
        return call(e);
      case Expr::kFilter:
        return filter(e);
      case Expr::kTest:
        return Value::of(test(e) != e.negated);
      case Expr::kUnary: {
        const Value v = part(0);
        const int sign = e.name == "-" ? -1 : 1;
        return v.plain() && v.json.is_number_float() ? Value::of(sign * number_of(v))
                                                     : Value::of(sign * integer_of(v));
      }
      case Expr::kNot:
        return Value::of(!part(0).truth());
      case Expr::kAnd: {
        Value left = part(0);
        return left.truth() ? part(1) : left;
      }
      case Expr::kOr: {
        Value left = part(0);
        return left.truth() ? left : part(1);
      }
      case Expr::kTernary:
        if (part(0).truth()) return part(1);
        return e.parts.size() > 2 ? part(2) : Value::none_such();
      case Expr::kBinary:
        return binary(e.name, part(0), part(1));
    }
    return Value::none_such();
  }

  Value slice(const Expr& e) {
    const Value of = eval(*e.parts[0]);
    Json items = Json::array();
    const bool text = of.is_string();
    if (text) {
      for (const std::string& c : characters(of.string())) items.push_back(c);
    } else if (of.plain() && of.json.is_array()) {
      items = of.json;
    } else {
      refuse("a part of what is no list");
    }
    const auto n = static_cast<int64_t>(items.size());
    const auto bound = [&](size_t i) -> std::optional<int64_t> {
      if (i >= e.parts.size()) return std::nullopt;
      const Value v = eval(*e.parts[i]);
      if (v.plain() && v.json.is_null()) return std::nullopt;
      return integer_of(v);
    };
    const int64_t step = bound(3).value_or(1);
    if (step == 0) refuse("a slice with step 0");
    const auto placed = [&](std::optional<int64_t> at, int64_t otherwise, int64_t low,
                            int64_t high) {
      if (!at) return otherwise;
      return std::clamp(*at < 0 ? *at + n : *at, low, high);
    };
    const int64_t begin = step > 0 ? placed(bound(1), 0, 0, n) : placed(bound(1), n - 1, -1, n - 1),
                  end = step > 0 ? placed(bound(2), n, 0, n) : placed(bound(2), -1, -1, n - 1);
    Json out = Json::array();
    std::string joined;
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
      if (text) {
        joined += items[static_cast<size_t>(i)].get<std::string>();
      } else {
        out.push_back(items[static_cast<size_t>(i)]);
      }
    }
    return text ? Value::of(joined) : Value::of(std::move(out));
  }

  Call arguments(const Expr& e) {
    Call call;
    for (size_t i = 1; i < e.parts.size(); ++i) call.positional.push_back(eval(*e.parts[i]));
    for (const auto& [key, value] : e.keywords) call.named[key] = eval(*value);
    return call;
  }

  Value call(const Expr& e) {
    const Expr& what = *e.parts[0];
    Call given = arguments(e);
    if (what.kind == Expr::kAttribute) {
      const Value of = eval(*what.parts[0]);
      if (of.plain()) return method(of, what.name, given);
    }
    const Value function = eval(what);
    if (!function.function) refuse("a call of what is no function", printable(what.name, 40));
    return (*function.function)(given);
  }

  Value filter(const Expr& e) {
    const Value v = eval(*e.parts[0]);
    const Call call = arguments(e);
    const std::string& name = e.name;
    if (name == "default" || name == "d") {
      const bool falsy = call.positional.size() > 1 && call.positional[1].truth();
      if (!v.undefined && (!falsy || v.truth())) return v;
      return call.positional.empty() ? Value::of("") : call.positional[0];
    }
    if (name == "trim") return Value::of(strip(text_of(v), text_argument(call, 0), true, true));
    if (name == "string") return Value::of(text_of(v));
    if (name == "safe" || name == "list") return name == "safe" ? v : listed(v);
    if (name == "tojson") {
      const auto given = call.named.find("indent");
      int64_t indent = given != call.named.end() ? integer_of(given->second) : -1;
      if (!call.positional.empty()) indent = integer_of(call.positional[0]);
      std::string out;
      dump_python(plain(v), static_cast<int>(std::clamp<int64_t>(indent, -1, 16)), 0, out);
      return Value::of(out);
    }
    if (name == "length" || name == "count")
      return Value::of(static_cast<int64_t>(items_of(v).size()));
    if (name == "first" || name == "last") {
      const auto items = items_of(v);
      if (items.empty()) return Value::none_such();
      return name == "first" ? items.front() : items.back();
    }
    if (name == "upper" || name == "lower") return Value::of(case_of(text_of(v), name == "upper"));
    if (name == "capitalize" || name == "title")
      return Value::of(capitalised(text_of(v), name == "title"));
    if (name == "replace") {
      const auto from = text_argument(call, 0), to = text_argument(call, 1);
      if (!from || !to) refuse("arguments of replace");
      return Value::of(replaced(text_of(v), *from, *to));
    }
    if (name == "join") {
      std::string out;
      bool first = true;
      for (const Value& item : items_of(v)) {
        if (!std::exchange(first, false)) out += text_argument(call, 0).value_or("");
        out += text_of(item);
      }
      return Value::of(out);
    }
    if (name == "items") return method(v, "items", call);
    if (name == "int") return Value::of(integer_of(v));
    refuse("a filter that is not understood", printable(name, 40));
  }

  bool test(const Expr& e) {
    const Value v = eval(*e.parts[0]);
    const std::string& name = e.name;
    if (name == "defined") return !v.undefined;
    if (name == "undefined") return v.undefined;
    const bool p = v.plain();
    if (name == "none") return p && v.json.is_null();
    if (name == "string") return p && v.json.is_string();
    if (name == "mapping") return p && v.json.is_object();
    if (name == "sequence" || name == "iterable")
      return p && (v.json.is_array() || v.json.is_string() || v.json.is_object());
    if (name == "boolean") return p && v.json.is_boolean();
    if (name == "true") return p && v.json.is_boolean() && v.json.get<bool>();
    if (name == "false") return p && v.json.is_boolean() && !v.json.get<bool>();
    if (name == "number") return p && (v.json.is_number() || v.json.is_boolean());
    if (name == "integer") return p && v.json.is_number_integer();
    if (name == "callable") return v.function != nullptr;
    if (name == "odd") return integer_of(v) % 2 != 0;
    if (name == "even") return integer_of(v) % 2 == 0;
    if (e.parts.size() > 1) {
      const Value other = eval(*e.parts[1]);
      if (name == "in") return holds(other, v);
      if (name == "eq" || name == "equalto") return equal(v, other);
      if (name == "divisibleby" && integer_of(other) != 0)
        return integer_of(v) % integer_of(other) == 0;
    }
    refuse("a test that is not understood", printable(name, 40));
  }

  std::vector<std::map<std::string, Value>> scopes_;
  int depth_ = 0;
  int64_t steps_ = 0;
};

}  // namespace

std::string run(const Block& block, const Json& variables) {
  std::string out;
  Machine(variables).run(block, out);
  return out;
}

}  // namespace kvlingua::text::jinja
