#include <algorithm>
#include <set>

#include "kvlingua/base/error.h"
#include "tree.h"

namespace kvlingua::text::jinja {
namespace {

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

}  // namespace

Block parse(std::vector<Token> tokens) { return Parser(std::move(tokens)).run(); }

}  // namespace kvlingua::text::jinja
