// Reading YAML into options: every problem with its place, and the nearest name for a key nobody
// knows.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <sstream>

#include "kvlingua/base/nearest.h"
#include "kvlingua/config/options.h"
#include "scalar.h"

namespace kvlingua {
namespace {

using namespace config_detail;

constexpr size_t kMaxBytes = size_t{4} << 20;

std::string kind_of(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Null:
      return "nothing";
    case YAML::NodeType::Scalar:
      return (node.Tag() == "!" ? "the text \"" : "") + printable(node.Scalar(), 60) +
             (node.Tag() == "!" ? "\"" : "");
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a section";
    default:
      return "nothing";
  }
}

class Reader : public OptionVisitor {
 public:
  Reader(std::string where, bool has_lines, std::vector<Problem>& problems, Places* places)
      : where_(std::move(where)), has_lines_(has_lines), problems_(problems), places_(places) {}

  void set_null_is_default(bool on) { null_is_default_ = on; }
  void run(const YAML::Node& root, const Visit& options) {
    if (!open(root, "")) return;
    options(*this);
    close();
  }

  void field(std::string_view name, bool& value, const FieldInfo&) override {
    if (const auto node = take(name)) {
      const auto read = plain(*node) ? parse_bool(node->Scalar()) : std::nullopt;
      if (read)
        value = *read;
      else
        wrong(*node, name, "true or false");
    }
  }
  void field(std::string_view name, int64_t& value, const FieldInfo& info) override {
    if (const auto node = take(name)) one(*node, name, value, info);
  }
  void field(std::string_view name, double& value, const FieldInfo& info) override {
    if (const auto node = take(name)) one(*node, name, value, info);
  }
  void field(std::string_view name, std::string& value, const FieldInfo& info) override {
    if (const auto node = take(name)) one(*node, name, value, info);
  }
  void field(std::string_view name, std::vector<int64_t>& value, const FieldInfo& info) override {
    many(name, value, info, "a list of integers");
  }
  void field(std::string_view name, std::vector<double>& value, const FieldInfo& info) override {
    many(name, value, info, "a list of numbers");
  }
  void field(std::string_view name, std::vector<std::string>& value,
             const FieldInfo& info) override {
    many(name, value, info, "a list of words");
  }

 protected:
  bool enter(std::string_view name, std::string_view) override {
    const auto node = take(name);
    return node && open(*node, name);
  }
  void leave() override { close(); }
  int64_t enter_list(std::string_view name, int64_t, std::string_view) override {
    const auto node = take(name);
    if (!node) return -1;
    if (!node->IsSequence()) {
      wrong(*node, name, "a list of sections");
      return -1;
    }
    lists_.push_back({*node, path(name)});
    return static_cast<int64_t>(node->size());
  }
  void enter_item(int64_t index) override {
    const List list = lists_.back();  // open() may grow the stack
    const std::string item = list.path + "[" + std::to_string(index) + "]";
    if (!open(list.node[static_cast<size_t>(index)], "", item))
      scopes_.push_back({{}, item, {}, {}});
  }
  void leave_item() override { close(); }
  void leave_list() override { lists_.pop_back(); }
  bool replaces_lists() const override { return true; }

 private:
  struct Entry {
    std::string key;
    YAML::Mark mark;
    YAML::Node value;
  };
  struct Scope {
    std::vector<Entry> entries;
    std::string path;
    std::vector<std::string> known;
    std::set<std::string> taken;
  };
  struct List {
    YAML::Node node;
    std::string path;
  };

  std::string path(std::string_view name) const {
    const std::string& above = scopes_.back().path;
    return above.empty()  ? std::string(name)
           : name.empty() ? above
                          : above + "." + std::string(name);
  }

  void report(const YAML::Mark& mark, ErrorParts parts) {
    Problem problem;
    if (has_lines_ && !mark.is_null()) {
      problem.line = mark.line + 1;
      problem.column = mark.column + 1;
      parts.where = cat(where_, ":", problem.line, ":", problem.column);
    } else {
      parts.where = where_;
    }
    parts.code = ExitCode::kUsage;
    problem.parts = std::move(parts);
    problems_.push_back(std::move(problem));
  }
  void wrong(const YAML::Node& node, std::string_view name, std::string expected) {
    report(node.Mark(),
           {.what = path(name), .got = kind_of(node), .expected = std::move(expected)});
  }

  // Opens a section: its keys are collected, and doubled ones reported.
  bool open(const YAML::Node& node, std::string_view name, std::string item_path = {}) {
    std::string here = !item_path.empty() ? std::move(item_path)
                       : scopes_.empty()  ? std::string(name)
                                          : path(name);
    Scope scope{{}, std::move(here), {}, {}};
    if (!node.IsMap()) {
      if (node.IsNull()) return false;  // "train:" with nothing under it: defaults
      report(node.Mark(),
             {.what = scope.path.empty() ? "a recipe is a map of sections" : scope.path,
              .got = kind_of(node),
              .expected =
                  scope.path.empty() ? "keys such as pair:, data:, train:" : "a section of keys"});
      return false;
    }
    std::set<std::string> seen;
    for (const auto& pair : node) {
      if (!pair.first.IsScalar()) {
        report(pair.first.Mark(), {.what = "a key must be a word", .got = kind_of(pair.first)});
        continue;
      }
      const std::string key = pair.first.Scalar();
      if (!seen.insert(key).second) {
        report(pair.first.Mark(), {.what = "key " + printable(key) + " is given twice",
                                   .remedy = "remove one of them"});
        continue;
      }
      scope.entries.push_back({key, pair.first.Mark(), pair.second});
    }
    scopes_.push_back(std::move(scope));
    return true;
  }

  void close() {
    const Scope scope = std::move(scopes_.back());
    scopes_.pop_back();
    for (const Entry& entry : scope.entries) {
      if (scope.taken.count(entry.key)) continue;
      const std::string nearest = nearest_name(entry.key, scope.known);
      std::string keys;
      for (const std::string& known : scope.known) keys += (keys.empty() ? "" : ", ") + known;
      const std::string section = scope.path.empty() ? "" : " in " + scope.path;
      report(entry.mark,
             {.what = "unknown key " + printable(entry.key) + section,
              .remedy = nearest.empty() ? "keys there: " + keys : "did you mean " + nearest + "?"});
    }
  }

  // The node given for `name` in the open section, if any.
  std::optional<YAML::Node> take(std::string_view name) {
    Scope& scope = scopes_.back();
    scope.known.emplace_back(name);
    for (const Entry& entry : scope.entries) {
      if (entry.key != name) continue;
      scope.taken.emplace(name);
      if (null_is_default_ && entry.value.IsNull()) return std::nullopt;
      if (places_ != nullptr) {
        Problem place;
        if (has_lines_ && !entry.mark.is_null()) {
          place.line = entry.mark.line + 1;
          place.column = entry.mark.column + 1;
        }
        place.parts.where =
            place.line > 0 ? cat(where_, ":", place.line, ":", place.column) : where_;
        (*places_)[path(name)] = std::move(place);
      }
      return entry.value;
    }
    return std::nullopt;
  }

  static bool plain(const YAML::Node& node) { return node.IsScalar() && node.Tag() != "!"; }

  bool in_range(const YAML::Node& node, std::string_view name, double value,
                const FieldInfo& info) {
    if (value >= info.min && value <= info.max && value > info.above) return true;
    const double nearest = value < info.min ? info.min : value > info.max ? info.max : NAN;
    report(node.Mark(),
           {.what = path(name),
            .got = number_text(value),
            .expected = range_text(info),
            .remedy = std::isfinite(nearest) ? "the nearest is " + number_text(nearest) : ""});
    return false;
  }
  bool one(const YAML::Node& node, std::string_view name, int64_t& value, const FieldInfo& info) {
    const auto read = plain(node) ? parse_integer(node.Scalar(), info.bytes) : std::nullopt;
    if (!read) return wrong(node, name, info.bytes ? "a size such as 512MiB" : "an integer"), false;
    if (!in_range(node, name, static_cast<double>(*read), info)) return false;
    value = *read;
    return true;
  }
  bool one(const YAML::Node& node, std::string_view name, double& value, const FieldInfo& info) {
    const auto read = plain(node) ? parse_number(node.Scalar()) : std::nullopt;
    if (!read) return wrong(node, name, "a number"), false;
    if (!in_range(node, name, *read, info)) return false;
    value = *read;
    return true;
  }
  bool one(const YAML::Node& node, std::string_view name, std::string& value,
           const FieldInfo& info) {
    if (!node.IsScalar()) return wrong(node, name, "a word"), false;
    const std::string& word = node.Scalar();
    if (!info.choices.empty() &&
        std::find(info.choices.begin(), info.choices.end(), word) == info.choices.end()) {
      const std::string nearest = nearest_name(word, {info.choices.begin(), info.choices.end()});
      report(node.Mark(), {.what = path(name),
                           .got = printable(word, 60),
                           .expected = range_text(info),
                           .remedy = nearest.empty() ? "" : "did you mean " + nearest + "?"});
      return false;
    }
    value = word;
    return true;
  }

  // A list, or a single value standing for a list of one.
  template <class T>
  void many(std::string_view name, std::vector<T>& value, const FieldInfo& info,
            std::string_view expected) {
    const auto node = take(name);
    if (!node) return;
    std::vector<T> read;
    if (node->IsScalar()) {
      T item{};
      if (one(*node, name, item, info)) value = {item};
      return;
    }
    if (!node->IsSequence()) return wrong(*node, name, std::string(expected));
    for (const YAML::Node& element : *node) {
      T item{};
      if (!one(element, name, item, info)) return;
      read.push_back(std::move(item));
    }
    value = std::move(read);
  }

  std::string where_;
  bool has_lines_;
  bool null_is_default_ = false;
  std::vector<Problem>& problems_;
  Places* places_;
  std::vector<Scope> scopes_;
  std::vector<List> lists_;
};

// Required fields and rules, after everything was read.
class Checker : public OptionVisitor {
 public:
  Checker(const Places& places, std::string file, std::vector<Problem>& problems)
      : places_(places), file_(std::move(file)), problems_(problems) {}
  void field(std::string_view, bool&, const FieldInfo&) override {}
  void field(std::string_view, int64_t&, const FieldInfo&) override {}
  void field(std::string_view, double&, const FieldInfo&) override {}
  void field(std::string_view name, std::string& value, const FieldInfo& info) override {
    filled(name, value.empty(), info);
  }
  void field(std::string_view name, std::vector<int64_t>& value, const FieldInfo& info) override {
    filled(name, value.empty(), info);
  }
  void field(std::string_view name, std::vector<double>& value, const FieldInfo& info) override {
    filled(name, value.empty(), info);
  }
  void field(std::string_view name, std::vector<std::string>& value,
             const FieldInfo& info) override {
    filled(name, value.empty(), info);
  }
  void require(bool holds, std::string_view name, std::string_view rule) override {
    if (!holds) report(name, std::string(rule), "");
  }

 protected:
  bool enter(std::string_view name, std::string_view) override { return push(std::string(name)); }
  void leave() override { sizes_.pop_back(); }
  int64_t enter_list(std::string_view name, int64_t size, std::string_view) override {
    push(std::string(name));
    return size;
  }
  void enter_item(int64_t index) override {
    sizes_.push_back(sizes_.back() + "[" + std::to_string(index) + "]");
  }
  void leave_item() override { sizes_.pop_back(); }
  void leave_list() override { sizes_.pop_back(); }

 private:
  bool push(std::string name) {
    sizes_.push_back(sizes_.empty() || sizes_.back().empty() ? std::move(name)
                                                             : sizes_.back() + "." + name);
    return true;
  }
  void filled(std::string_view name, bool empty, const FieldInfo& info) {
    if (info.required && empty) report(name, "is missing", std::string(info.help));
  }
  void report(std::string_view name, const std::string& rule, std::string expected) {
    const std::string path =
        sizes_.empty() ? std::string(name) : sizes_.back() + "." + std::string(name);
    Problem problem;
    // The field's own place, or that of the nearest section around it that the file has.
    for (std::string at = path;;) {
      if (const auto place = places_.find(at); place != places_.end()) {
        problem = place->second;
        break;
      }
      const size_t cut = at.find_last_of(".[");
      if (cut == std::string::npos) break;
      at.resize(cut);
    }
    if (problem.parts.where.empty()) problem.parts.where = file_;
    problem.parts.code = ExitCode::kUsage;
    problem.parts.what = path + " " + rule;
    problem.parts.expected = std::move(expected);
    problems_.push_back(std::move(problem));
  }

  const Places& places_;
  std::string file_;
  std::vector<Problem>& problems_;
  std::vector<std::string> sizes_;  // dotted paths of the open sections
};

// Listens to nothing: for going over a document without building it.
class Silent : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// The one document of a text. YAML::LoadAll() is not used: a stray bracket after the document makes
// it yield empty documents without end.
YAML::Node load_one(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  Silent silent;
  if (!parser.HandleNextDocument(silent)) return YAML::Node();
  if (parser.HandleNextDocument(silent)) {
    throw YAML::Exception(YAML::Mark::null_mark(),
                          "something stands after the end of the document");
  }
  return YAML::Load(text);
}

Problem syntax_problem(const std::string& where, const YAML::Exception& error, bool has_lines) {
  Problem problem;
  problem.parts = {
      .code = ExitCode::kUsage, .where = where, .what = "not valid YAML: " + printable(error.msg)};
  if (has_lines && !error.mark.is_null()) {
    problem.line = error.mark.line + 1;
    problem.column = error.mark.column + 1;
    problem.parts.where = cat(where, ":", problem.line, ":", problem.column);
  }
  return problem;
}

}  // namespace

std::vector<Problem> read_options(const Visit& options, std::string_view yaml,
                                  const std::string& file, Places* places, bool null_is_default) {
  std::vector<Problem> problems;
  if (yaml.size() > kMaxBytes) {
    problems.push_back({0,
                        0,
                        {.code = ExitCode::kUsage,
                         .where = file,
                         .what = "too large for a recipe",
                         .got = cat(yaml.size(), " bytes"),
                         .expected = cat("at most ", kMaxBytes)}});
    return problems;
  }
  try {
    Reader reader(file, true, problems, places);
    reader.set_null_is_default(null_is_default);
    reader.run(load_one(std::string(yaml)), options);
  } catch (const YAML::Exception& error) {
    problems.push_back(syntax_problem(file, error, true));
  }
  std::stable_sort(problems.begin(), problems.end(), [](const Problem& a, const Problem& b) {
    return std::pair(a.line, a.column) < std::pair(b.line, b.column);
  });
  return problems;
}

std::vector<Problem> set_option(const Visit& options, std::string_view assignment, Places* places) {
  std::vector<Problem> problems;
  const std::string where = "--set " + printable(assignment);
  const size_t equals = assignment.find('=');
  const auto bad_form = [&] {
    return std::vector<Problem>{{0,
                                 0,
                                 {.code = ExitCode::kUsage,
                                  .where = where,
                                  .what = "wrong form",
                                  .expected = "section.key=value"}}};
  };
  if (equals == std::string_view::npos || equals == 0) return bad_form();
  const auto set_value = [&](YAML::Node value, std::string_view keys) {
    std::vector<Problem> found;
    while (true) {
      const size_t dot = keys.rfind('.');
      const std::string key(dot == std::string_view::npos ? keys : keys.substr(dot + 1));
      if (key.empty()) return bad_form();
      YAML::Node around;
      around[key] = value;
      value = around;
      if (dot == std::string_view::npos) break;
      keys = keys.substr(0, dot);
    }
    Reader(where, false, found, places).run(value, options);
    return found;
  };
  try {
    const std::string text(assignment.substr(equals + 1));
    YAML::Node value = load_one(text);
    if (value.IsNull()) value = YAML::Node(std::string());  // a.b= empties a word
    const std::string_view path = assignment.substr(0, equals);
    problems = set_value(value, path);
    // "Note: be brief" is YAML's way to write a section, and a sentence to whoever typed it.
    if (!problems.empty() && value.IsMap() && !text.starts_with('{')) {
      std::vector<Problem> as_text = set_value(YAML::Node(text), path);
      if (as_text.empty()) return as_text;
    }
  } catch (const YAML::Exception& error) {
    problems.push_back(syntax_problem(where, error, false));
  }
  return problems;
}

std::vector<Problem> check_options(const Visit& options, const Places& places,
                                   const std::string& file) {
  std::vector<Problem> problems;
  Checker checker(places, file, problems);
  options(checker);
  return problems;
}

void throw_first(const std::vector<Problem>& problems) {
  if (problems.empty()) return;
  ErrorParts parts = problems.front().parts;
  if (problems.size() > 1) {
    parts.remedy += cat(parts.remedy.empty() ? "" : " ", "(and ", problems.size() - 1,
                        " more; `kvlingua recipe check` lists them)");
  }
  throw Error(std::move(parts));
}

}  // namespace kvlingua
