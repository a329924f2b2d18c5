// What a chat template is read into: tokens, then a tree of statements and expressions.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvlingua::text::jinja {

using Json = nlohmann::ordered_json;

// What bounds a template's work.
constexpr size_t kLongestTemplate = 1 << 20, kLongestOutput = 8 << 20, kLongestList = 1 << 20;
constexpr int kDeepest = 64;
constexpr int64_t kMostSteps = 2'000'000;

// Throws Error (kInput).
[[noreturn]] void refuse(const std::string& what, const std::string& got = {});

struct Token {
  enum Kind { kText, kName, kString, kNumber, kOp, kBegin, kEnd, kDone } kind = kDone;
  std::string text;  // kBegin: "{{" or "{%"; kEnd: "}}" or "%}"
};

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

// By trim_blocks and lstrip_blocks. Throws Error (kInput) for a tag that does not end.
std::vector<Token> tokens_of(std::string_view source);
// Throws Error (kInput) for syntax that is not understood.
Block parse(std::vector<Token> tokens);

}  // namespace kvlingua::text::jinja
