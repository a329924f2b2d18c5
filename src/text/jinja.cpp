#include "jinja.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua::text {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLongestTemplate = 1 << 20, kLongestOutput = 8 << 20, kLongestList = 1 << 20;
constexpr int kDeepest = 64;
constexpr int64_t kMostSteps = 2'000'000;

[[noreturn]] void refuse(const std::string& what, const std::string& got = {}) {
  throw Error({.code = ExitCode::kInput, .where = "chat template", .what = what, .got = got});
}

// ---- tokens ------------------------------------------------------------------------------------

struct Token {
  enum Kind { kText, kName, kString, kNumber, kOp, kBegin, kEnd, kDone } kind = kDone;
  std::string text;  // kBegin: "{{" or "{%"; kEnd: "}}" or "%}"
};

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : in_(source) {}

  std::vector<Token> run() {
    while (at_ < in_.size()) {
      const size_t open = next_tag();
      std::string text(in_.substr(at_, open - at_));
      if (open == in_.size()) {
        put_text(std::move(text));
        break;
      }
      const char kind = in_[open + 1];
      size_t inside = open + 2;
      const char mark = inside < in_.size() ? in_[inside] : ' ';
      if (mark == '-') {
        while (!text.empty() && is_space(text.back())) text.pop_back();
      } else if (kind != '{' && mark != '+') {
        strip_line_begin(text, open);
      }
      if (mark == '-' || mark == '+') ++inside;
      put_text(std::move(text));
      at_ = inside;
      if (kind == '#') {
        comment();
      } else {
        tag(kind);
      }
    }
    out_.push_back({Token::kDone, ""});
    return std::move(out_);
  }

 private:
  static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
  }

  size_t next_tag() const {
    for (size_t i = at_; i + 1 < in_.size(); ++i) {
      if (in_[i] == '{' && (in_[i + 1] == '{' || in_[i + 1] == '%' || in_[i + 1] == '#')) return i;
    }
    return in_.size();
  }

  // lstrip_blocks: white space between the beginning of a line and a block's tag goes.
  void strip_line_begin(std::string& text, size_t open) const {
    size_t begin = text.size();
    while (begin > 0 && is_space(text[begin - 1]) && text[begin - 1] != '\n') --begin;
    const bool at_line = begin > 0 ? text[begin - 1] == '\n'
                                   : open == text.size() || in_[open - text.size() - 1] == '\n';
    if (at_line) text.resize(begin);
  }

  void put_text(std::string text) {
    if (!text.empty()) out_.push_back({Token::kText, std::move(text)});
  }

  // Behind a tag: "-" takes all white space, trim_blocks one line feed behind a block or comment.
  void close(bool dash, bool block) {
    if (dash) {
      while (at_ < in_.size() && is_space(in_[at_])) ++at_;
    } else if (block && at_ < in_.size() && in_[at_] == '\n') {
      ++at_;
    }
  }

  void comment() {
    const size_t end = in_.find("#}", at_);
    if (end == std::string_view::npos) refuse("a comment does not end");
    const bool dash = end > at_ && in_[end - 1] == '-', plus = end > at_ && in_[end - 1] == '+';
    at_ = end + 2;
    close(dash, !plus);
  }

  void tag(char kind) {
    const std::string end = kind == '{' ? "}}" : "%}";
    out_.push_back({Token::kBegin, kind == '{' ? "{{" : "{%"});
    int depth = 0;  // of braces: "}}" may end two dicts
    while (true) {
      while (at_ < in_.size() && is_space(in_[at_])) ++at_;
      if (at_ >= in_.size()) refuse("a tag does not end");
      const char c = in_[at_];
      const bool signed_end = (c == '-' || c == '+') && in_.substr(at_ + 1, 2) == end;
      if (depth == 0 && (signed_end || in_.substr(at_, 2) == end)) {
        at_ += signed_end ? 3 : 2;
        out_.push_back({Token::kEnd, end});
        close(signed_end && c == '-', kind != '{' && !(signed_end && c == '+'));
        return;
      }
      if (c == '"' || c == '\'') {
        string(c);
      } else if (c >= '0' && c <= '9') {
        const size_t begin = at_;
        while (at_ < in_.size() &&
               (is_name_char(in_[at_]) || (in_[at_] == '.' && at_ + 1 < in_.size() &&
                                           in_[at_ + 1] >= '0' && in_[at_ + 1] <= '9')))
          ++at_;
        out_.push_back({Token::kNumber, std::string(in_.substr(begin, at_ - begin))});
      } else if (is_name_char(c)) {
        const size_t begin = at_;
        while (at_ < in_.size() && is_name_char(in_[at_])) ++at_;
        out_.push_back({Token::kName, std::string(in_.substr(begin, at_ - begin))});
      } else {
        depth += c == '{' ? 1 : c == '}' ? -1 : 0;
        op();
      }
    }
  }

  void op() {
    for (const std::string_view two : {"==", "!=", "<=", ">=", "//", "**"}) {
      if (in_.substr(at_, 2) == two) {
        out_.push_back({Token::kOp, std::string(two)});
        at_ += 2;
        return;
      }
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(in_[at_]) == std::string_view::npos)
      refuse("a character that is not understood", printable(in_.substr(at_, 1)));
    out_.push_back({Token::kOp, std::string(1, in_[at_++])});
  }

  void string(char quote) {
    std::string text;
    for (++at_; at_ < in_.size() && in_[at_] != quote; ++at_) {
      if (in_[at_] != '\\') {
        text += in_[at_];
        continue;
      }
      if (++at_ >= in_.size()) break;
      escape(text);
    }
    if (at_ >= in_.size()) refuse("a string does not end");
    ++at_;
    out_.push_back({Token::kString, std::move(text)});
  }

  void escape(std::string& text) {
    const char c = in_[at_];
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0) {
      char32_t code = 0;
      for (size_t i = 0; i < digits; ++i) {
        const char h = ++at_ < in_.size() ? in_[at_] : ' ';
        const size_t value = std::string_view("0123456789abcdef")
                                 .find(h >= 'A' && h <= 'F' ? static_cast<char>(h + 32) : h);
        if (value == std::string_view::npos) refuse("a string's escape is malformed");
        code = code * 16 + static_cast<char32_t>(value);
      }
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        refuse("a string's escape is no character");
      append_utf8(text, code);
      return;
    }
    constexpr std::string_view kFrom = "ntrabfv0\\'\"\n", kTo = "\n\t\r\a\b\f\v\0\\'\"";
    const size_t known = kFrom.find(c);
    if (known == std::string_view::npos) {
      text += '\\';
      text += c;
    } else if (c == '0') {
      text += '\0';
    } else if (c != '\n') {
      text += known < 7 ? kTo[known] : c;
    }
  }

  std::string_view in_;
  size_t at_ = 0;
  std::vector<Token> out_;
};

// ---- values ------------------------------------------------------------------------------------

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

int64_t integer_of(const Value& v) {
  if (v.plain() && v.json.is_boolean()) return v.json.get<bool>() ? 1 : 0;
  if (!v.plain() || !v.json.is_number_integer()) refuse("a whole number was expected");
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

// json.dumps as transformers' tojson calls it: ", " and ": ", or indented, non-ASCII as it is.
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

// ---- tree --------------------------------------------------------------------------------------

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;
struct Expr {
  enum Kind {
    kLiteral,
    kName,
    kList,
    kDict,
    kAttribute,
    kIndex,
    kSlice,
    kCall,
    kFilter,
    kTest,
    kUnary,
    kBinary,
    kAnd,
    kOr,
    kNot,
    kTernary
  } kind = kLiteral;
  std::string name;  // of a name, attribute, filter, test, operator
  Json literal;
  bool negated = false;
  std::vector<ExprPtr> parts;                             // operands, arguments
  std::vector<std::pair<std::string, ExprPtr>> keywords;  // of calls, filters
};

struct Node;
using NodePtr = std::unique_ptr<Node>;
using Block = std::vector<NodePtr>;
struct Node {
  enum Kind { kText, kPrint, kIf, kFor, kSet, kSetBlock, kMacro, kBreak, kContinue, kScope } kind;
  std::string text;                // text; name of what is set or defined
  std::string attribute;           // set ns.attribute
  std::vector<std::string> names;  // of loop variables, parameters
  ExprPtr value, filter;
  std::vector<std::pair<std::string, ExprPtr>> defaults;
  std::vector<std::pair<ExprPtr, Block>> branches;  // if, elif
  Block body, otherwise;
};

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  Block run() {
    Block block = block_until({});
    if (now().kind != Token::kDone) refuse("a statement stands where none may", peek_statement());
    return block;
  }

 private:
  const Token& now() const { return tokens_[at_]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is(Token::Kind kind, std::string_view text) const {
    return now().kind == kind && now().text == text;
  }
  bool accept(Token::Kind kind, std::string_view text) {
    if (!is(kind, text)) return false;
    ++at_;
    return true;
  }
  void expect(Token::Kind kind, std::string_view text) {
    if (!accept(kind, text)) refuse(cat("expected ", text), printable(now().text, 40));
  }
  std::string name() {
    if (now().kind != Token::kName) refuse("a name was expected", printable(now().text, 40));
    return take().text;
  }
  std::string peek_statement() const {
    return is(Token::kBegin, "{%") && at_ + 1 < tokens_.size() ? tokens_[at_ + 1].text : "";
  }

  // Statements up to, not including, one of `ends`.
  Block block_until(const std::set<std::string>& ends) {
    if (++depth_ > kDeepest) refuse("statements nest too deep");
    Block block;
    while (now().kind != Token::kDone) {
      if (now().kind == Token::kText) {
        auto node = std::make_unique<Node>();
        node->kind = Node::kText;
        node->text = take().text;
        block.push_back(std::move(node));
      } else if (accept(Token::kBegin, "{{")) {
        auto node = std::make_unique<Node>();
        node->kind = Node::kPrint;
        node->value = expression();
        expect(Token::kEnd, "}}");
        block.push_back(std::move(node));
      } else {
        if (ends.contains(peek_statement())) break;
        expect(Token::kBegin, "{%");
        const std::string word = name();
        block.push_back(statement(word));
      }
    }
    --depth_;
    return block;
  }

  void end_tag() { expect(Token::kEnd, "%}"); }
  void end_statement(std::string_view word) {
    expect(Token::kBegin, "{%");
    expect(Token::kName, word);
    end_tag();
  }

  NodePtr statement(const std::string& word) {
    auto node = std::make_unique<Node>();
    if (word == "if") {
      if_statement(*node);
    } else if (word == "for") {
      for_statement(*node);
    } else if (word == "set") {
      set_statement(*node);
    } else if (word == "macro") {
      macro_statement(*node);
    } else if (word == "break" || word == "continue") {
      node->kind = word == "break" ? Node::kBreak : Node::kContinue;
      end_tag();
    } else if (word == "generation") {  // marks what is trained on; prints as it is
      node->kind = Node::kScope;
      end_tag();
      node->body = block_until({"endgeneration"});
      end_statement("endgeneration");
    } else {
      refuse("a statement that is not understood", printable(word, 40));
    }
    return node;
  }

  // What follows "else", where there is one, and the end.
  void otherwise(Node& node, std::string_view end) {
    if (accept(Token::kName, "else")) {
      end_tag();
      node.otherwise = block_until({std::string(end)});
      expect(Token::kBegin, "{%");
    }
    expect(Token::kName, end);
    end_tag();
  }

  void if_statement(Node& node) {
    node.kind = Node::kIf;
    do {
      ExprPtr condition = expression();
      end_tag();
      node.branches.emplace_back(std::move(condition), block_until({"elif", "else", "endif"}));
      expect(Token::kBegin, "{%");
    } while (accept(Token::kName, "elif"));
    otherwise(node, "endif");
  }

  void for_statement(Node& node) {
    node.kind = Node::kFor;
    do node.names.push_back(name());
    while (accept(Token::kOp, ","));
    expect(Token::kName, "in");
    node.value = or_expression();  // "if" behind it filters
    if (accept(Token::kName, "if")) node.filter = expression();
    end_tag();
    node.body = block_until({"else", "endfor"});
    expect(Token::kBegin, "{%");
    otherwise(node, "endfor");
  }

  void set_statement(Node& node) {
    node.text = name();
    if (accept(Token::kOp, ".")) node.attribute = name();
    if (accept(Token::kOp, "=")) {
      node.kind = Node::kSet;
      node.value = expression();
      end_tag();
      return;
    }
    node.kind = Node::kSetBlock;
    end_tag();
    node.body = block_until({"endset"});
    end_statement("endset");
  }

  void macro_statement(Node& node) {
    node.kind = Node::kMacro;
    node.text = name();
    expect(Token::kOp, "(");
    while (!accept(Token::kOp, ")")) {
      node.names.push_back(name());
      if (accept(Token::kOp, "=")) node.defaults.emplace_back(node.names.back(), expression());
      if (!is(Token::kOp, ")")) expect(Token::kOp, ",");
    }
    end_tag();
    node.body = block_until({"endmacro"});
    end_statement("endmacro");
  }

  static ExprPtr make(Expr::Kind kind, std::string name = {}) {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->name = std::move(name);
    return e;
  }
  static ExprPtr join(ExprPtr e, ExprPtr a, ExprPtr b = nullptr) {
    e->parts.push_back(std::move(a));
    if (b) e->parts.push_back(std::move(b));
    return e;
  }

  ExprPtr expression() {
    if (++depth_ > kDeepest) refuse("an expression nests too deep");
    ExprPtr value = or_expression();
    if (accept(Token::kName, "if")) {
      ExprPtr choice = join(make(Expr::kTernary), or_expression(), std::move(value));
      if (accept(Token::kName, "else")) choice->parts.push_back(expression());
      value = std::move(choice);
    }
    --depth_;
    return value;
  }
  ExprPtr or_expression() {
    ExprPtr left = and_expression();
    while (accept(Token::kName, "or"))
      left = join(make(Expr::kOr), std::move(left), and_expression());
    return left;
  }
  ExprPtr and_expression() {
    ExprPtr left = not_expression();
    while (accept(Token::kName, "and"))
      left = join(make(Expr::kAnd), std::move(left), not_expression());
    return left;
  }
  ExprPtr not_expression() {
    if (!accept(Token::kName, "not")) return comparison();
    if (++depth_ > kDeepest) refuse("an expression nests too deep");
    ExprPtr e = join(make(Expr::kNot), not_expression());
    --depth_;
    return e;
  }
  ExprPtr comparison() {
    ExprPtr left = sum();
    int compared = 0;
    while (true) {
      std::string op;
      for (const std::string_view known : {"==", "!=", "<", ">", "<=", ">="})
        if (accept(Token::kOp, known)) op = known;
      if (op.empty() && accept(Token::kName, "in")) op = "in";
      if (op.empty() && is(Token::kName, "not") && tokens_[at_ + 1].text == "in") {
        at_ += 2;
        op = "not in";
      }
      if (op.empty()) return left;
      if (++compared > 1) refuse("a chain of comparisons");
      left = join(make(Expr::kBinary, op), std::move(left), sum());
    }
  }
  ExprPtr sum() {
    ExprPtr left = concat();
    while (is(Token::kOp, "+") || is(Token::kOp, "-")) {
      const std::string op = take().text;
      left = join(make(Expr::kBinary, op), std::move(left), concat());
    }
    return left;
  }
  ExprPtr concat() {
    ExprPtr left = product();
    while (accept(Token::kOp, "~"))
      left = join(make(Expr::kBinary, "~"), std::move(left), product());
    return left;
  }
  ExprPtr product() {
    ExprPtr left = unary();
    while (is(Token::kOp, "*") || is(Token::kOp, "/") || is(Token::kOp, "//") ||
           is(Token::kOp, "%")) {
      const std::string op = take().text;
      left = join(make(Expr::kBinary, op), std::move(left), unary());
    }
    return left;
  }
  ExprPtr unary() {
    if (is(Token::kOp, "-") || is(Token::kOp, "+")) {
      if (++depth_ > kDeepest) refuse("an expression nests too deep");
      const std::string op = take().text;
      ExprPtr e = join(make(Expr::kUnary, op), unary());
      --depth_;
      return e;
    }
    return tests(postfix(primary()));
  }
  ExprPtr tests(ExprPtr e) {
    while (true) {
      if (accept(Token::kOp, "|")) {
        e = join(make(Expr::kFilter, name()), std::move(e));
        if (accept(Token::kOp, "(")) arguments(*e);
        e = postfix(std::move(e));
      } else if (accept(Token::kName, "is")) {
        const bool negated = accept(Token::kName, "not");
        e = join(make(Expr::kTest, name()), std::move(e));
        e->negated = negated;
        if (accept(Token::kOp, "(")) {
          arguments(*e);
        } else if (e->name == "divisibleby" || e->name == "in" || e->name == "eq" ||
                   e->name == "equalto") {
          e->parts.push_back(postfix(primary()));
        }
      } else {
        return e;
      }
    }
  }
  void arguments(Expr& call) {
    while (!accept(Token::kOp, ")")) {
      if (now().kind == Token::kName && tokens_[at_ + 1].kind == Token::kOp &&
          tokens_[at_ + 1].text == "=") {
        std::string key = name();
        ++at_;
        call.keywords.emplace_back(std::move(key), expression());
      } else {
        call.parts.push_back(expression());
      }
      if (!is(Token::kOp, ")")) expect(Token::kOp, ",");
    }
  }
  ExprPtr postfix(ExprPtr e) {
    while (true) {
      if (accept(Token::kOp, ".")) {
        e = join(make(Expr::kAttribute, name()), std::move(e));
      } else if (accept(Token::kOp, "(")) {
        e = join(make(Expr::kCall), std::move(e));
        arguments(*e);
      } else if (accept(Token::kOp, "[")) {
        e = subscript(std::move(e));
      } else {
        return e;
      }
    }
  }
  ExprPtr subscript(ExprPtr of) {
    std::vector<ExprPtr> bounds;
    bool slice = false;
    for (int i = 0; i < 3; ++i) {
      const bool none = is(Token::kOp, ":") || is(Token::kOp, "]");
      bounds.push_back(none ? make(Expr::kLiteral) : expression());
      if (!accept(Token::kOp, ":")) break;
      slice = true;
    }
    expect(Token::kOp, "]");
    ExprPtr e = join(make(slice ? Expr::kSlice : Expr::kIndex), std::move(of));
    for (ExprPtr& bound : bounds) e->parts.push_back(std::move(bound));
    return e;
  }
  ExprPtr primary() {
    const Token token = take();
    if (token.kind == Token::kString) {
      ExprPtr e = make(Expr::kLiteral);
      std::string text = token.text;
      while (now().kind == Token::kString) text += take().text;
      e->literal = std::move(text);
      return e;
    }
    if (token.kind == Token::kNumber) return number(token.text);
    if (token.kind == Token::kName) {
      ExprPtr e = make(Expr::kLiteral);
      if (token.text == "true" || token.text == "True") {
        e->literal = true;
      } else if (token.text == "false" || token.text == "False") {
        e->literal = false;
      } else if (token.text != "none" && token.text != "None") {
        return make(Expr::kName, token.text);
      }
      return e;
    }
    if (token.kind == Token::kOp && token.text == "(") return tuple();
    if (token.kind == Token::kOp && token.text == "[") {
      ExprPtr e = make(Expr::kList);
      while (!accept(Token::kOp, "]")) {
        e->parts.push_back(expression());
        if (!is(Token::kOp, "]")) expect(Token::kOp, ",");
      }
      return e;
    }
    if (token.kind == Token::kOp && token.text == "{") {
      ExprPtr e = make(Expr::kDict);
      while (!accept(Token::kOp, "}")) {
        e->parts.push_back(expression());
        expect(Token::kOp, ":");
        e->parts.push_back(expression());
        if (!is(Token::kOp, "}")) expect(Token::kOp, ",");
      }
      return e;
    }
    refuse("a value was expected", printable(token.text, 40));
  }
  static ExprPtr number(const std::string& text) {
    ExprPtr e = make(Expr::kLiteral);
    Json parsed = Json::parse(text, nullptr, false);
    if (!parsed.is_number()) refuse("a number that is not understood", printable(text, 40));
    e->literal = std::move(parsed);
    return e;
  }
  ExprPtr tuple() {
    ExprPtr list = make(Expr::kList);
    bool comma = false;
    while (!accept(Token::kOp, ")")) {
      list->parts.push_back(expression());
      if (is(Token::kOp, ")")) continue;
      expect(Token::kOp, ",");
      comma = true;
    }
    if (list->parts.size() == 1 && !comma) return std::move(list->parts[0]);
    return list;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

// ---- texts -------------------------------------------------------------------------------------

bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string strip(std::string_view text, const std::optional<std::string>& chars, bool left,
                  bool right) {
  std::vector<std::pair<size_t, size_t>> places;
  std::set<char32_t> wanted;
  for (size_t at = 0; chars && at < chars->size();) wanted.insert(next_code_point(*chars, at));
  const auto goes = [&](size_t at) {
    const char32_t c = next_code_point(text, at);
    return chars ? wanted.contains(c) : is_python_space(c);
  };
  size_t begin = 0, end = text.size();
  while (left && begin < end && goes(begin)) begin += utf8_length(text[begin]);
  while (right && end > begin) {
    size_t last = end - 1;
    while (last > begin && !begins_character(text[last])) --last;
    if (!goes(last)) break;
    end = last;
  }
  return std::string(text.substr(begin, end - begin));
}

std::string case_of(std::string text, bool upper) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) refuse("upper and lower case beyond ASCII");
    if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
    if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return text;
}

std::string capitalised(const std::string& text, bool each_word) {
  std::string out = case_of(text, false);
  bool begin = true;
  for (char& c : out) {
    const bool letter = c >= 'a' && c <= 'z';
    if (letter && begin) c = static_cast<char>(c - 32);
    begin = each_word ? !letter : false;
  }
  return out;
}

std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t n = utf8_length(text[at]);
    out.push_back(text.substr(at, n));
    at += n;
  }
  return out;
}

Json split(const std::string& text, const std::optional<std::string>& by, int64_t most) {
  Json out = Json::array();
  if (!by) {
    std::string word;
    for (const std::string& c : characters(text)) {
      size_t at = 0;
      if (!is_python_space(next_code_point(c, at))) {
        word += c;
      } else if (!word.empty()) {
        out.push_back(std::exchange(word, {}));
      }
    }
    if (most >= 0) refuse("split with a limit and no separator");
    if (!word.empty()) out.push_back(word);
    return out;
  }
  if (by->empty()) refuse("split by nothing");
  size_t at = 0;
  for (size_t found; (most < 0 || most-- > 0) && (found = text.find(*by, at)) != std::string::npos;
       at = found + by->size())
    out.push_back(text.substr(at, found - at));
  out.push_back(text.substr(at));
  return out;
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to) {
  if (from.empty()) refuse("replace of nothing");
  std::string out;
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != std::string::npos; at = found + from.size())
    out += text.substr(at, found - at) + to;
  return out + text.substr(at);
}

// ---- running -----------------------------------------------------------------------------------

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

  static Json plain(const Value& v) {
    if (!v.plain()) refuse("a list or dict of what is no plain value");
    return v.json;
  }

  static bool equal(const Value& a, const Value& b) {
    if (a.undefined || b.undefined) return a.undefined && b.undefined;
    return a.plain() && b.plain() && a.json == b.json;
  }

  static bool holds(const Value& container, const Value& item) {
    if (container.undefined) return false;
    if (!container.plain()) refuse("in of what is no list");
    if (container.json.is_string())
      return container.string().find(item.string()) != std::string::npos;
    if (container.json.is_object())
      return item.is_string() && container.json.contains(item.string());
    if (!container.json.is_array()) refuse("in of what is no list", container.json.type_name());
    return item.plain() && std::find(container.json.begin(), container.json.end(), item.json) !=
                               container.json.end();
  }

  // Doubled sixty times a line is an exabyte: what is longer than any output may be is no text.
  static std::string joined_text(const std::string& a, const std::string& b) {
    if (a.size() + b.size() > kLongestOutput) refuse("makes too long a text");
    return a + b;
  }

  static Value binary(const std::string& op, const Value& a, const Value& b) {
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

  static Value attribute(const Value& of, const std::string& name) {
    if (of.undefined) refuse("a member of something undefined", name);
    if (of.space) {
      const auto found = of.space->find(name);
      return found == of.space->end() ? Value::none_such() : found->second;
    }
    if (of.plain() && of.json.is_object() && of.json.contains(name))
      return Value::of(of.json[name]);
    return Value::none_such();
  }

  static Value index(const Value& of, const Value& key) {
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

  static std::optional<std::string> text_argument(const Call& call, size_t i) {
    if (i >= call.positional.size()) return std::nullopt;
    const Value& v = call.positional[i];
    if (v.plain() && v.json.is_null()) return std::nullopt;
    return v.string();
  }

  static Value method(const Value& of, const std::string& name, const Call& call) {
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
      if (name == "title" || name == "capitalize")
        return Value::of(capitalised(s, name == "title"));
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

  Value listed(const Value& v) {
    Json out = Json::array();
    for (const Value& item : items_of(v)) out.push_back(plain(item));
    return Value::of(std::move(out));
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

struct JinjaTemplate::Impl {
  Block block;
};

JinjaTemplate::JinjaTemplate(std::string_view source) : impl_(std::make_unique<Impl>()) {
  if (source.size() > kLongestTemplate) refuse("too long", cat(source.size(), " bytes"));
  if (const auto at = find_invalid_utf8(source)) refuse(cat("not UTF-8 at byte ", *at));
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {  // line ends as Jinja makes them
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') continue;
      text += '\n';
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  impl_->block = Parser(Lexer(text).run()).run();
}
JinjaTemplate::~JinjaTemplate() = default;
JinjaTemplate::JinjaTemplate(JinjaTemplate&&) noexcept = default;
JinjaTemplate& JinjaTemplate::operator=(JinjaTemplate&&) noexcept = default;

std::string JinjaTemplate::render(const nlohmann::ordered_json& variables) const {
  std::string out;
  Machine(variables).run(impl_->block, out);
  return out;
}

}  // namespace kvlingua::text
