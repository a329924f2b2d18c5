// Options: structs whose fields are listed once and drive everything that concerns them.
//
//   struct RidgeOptions {
//     int64_t source_layers = 0;
//     std::string layout = "full";
//     template <class V> void visit(V& v) {
//       v.field("source_layers", source_layers, {.help = "layers read; 0 = all", .min = 0});
//       v.field("layout", layout, {.choices = {"full", "head_matched"}});
//       v.require(source_layers > 0 || layout == "full", "layout",
//                 "head_matched needs source_layers");
//     }
//   };
//
// That one list gives YAML reading with file:line:column errors and the nearest key name, `--set
// a.b=c`, help, the table printed when a run starts, and the resolved recipe.yaml. A field's type
// is bool, int64_t, double, std::string, or a vector of the last three; structs nest with section()
// and repeat with list(). Knows no torch and no particular section.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/base/error.h"

namespace kvlingua {

// What is said about a field besides its name and default. Bounds are inclusive, and for lists hold
// for each element.
struct FieldInfo {
  std::string_view help = {};
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  // Exclusive lower bound, for rates and widths.
  double above = -std::numeric_limits<double>::infinity();
  std::vector<std::string_view> choices = {};  // strings: the only values allowed
  bool required = false;                       // strings and lists: must not be empty
  bool bytes = false;                          // integers: 512MiB, 1GiB, 2GB are understood
};

// What walks over the fields. Names must be string literals.
class OptionVisitor {
 public:
  virtual ~OptionVisitor() = default;
  virtual void field(std::string_view name, bool& value, const FieldInfo& info) = 0;
  virtual void field(std::string_view name, int64_t& value, const FieldInfo& info) = 0;
  virtual void field(std::string_view name, double& value, const FieldInfo& info) = 0;
  virtual void field(std::string_view name, std::string& value, const FieldInfo& info) = 0;
  virtual void field(std::string_view name, std::vector<int64_t>& value, const FieldInfo& info) = 0;
  virtual void field(std::string_view name, std::vector<double>& value, const FieldInfo& info) = 0;
  virtual void field(std::string_view name, std::vector<std::string>& value,
                     const FieldInfo& info) = 0;
  // A rule over several fields, checked once everything is read; `name` says which field to point
  // at.
  virtual void require(bool holds, std::string_view name, std::string_view rule) {
    (void)holds, (void)name, (void)rule;
  }

  template <class T>
  void section(std::string_view name, T& options, std::string_view help = {}) {
    if (!enter(name, help)) return;
    options.visit(*this);
    leave();
  }
  template <class T>
  void list(std::string_view name, std::vector<T>& items, std::string_view help = {}) {
    const int64_t count = enter_list(name, static_cast<int64_t>(items.size()), help);
    if (count < 0) return;
    if (replaces_lists())
      items.clear();  // what a file gives replaces a list, it does not extend the default
    items.resize(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      enter_item(i);
      items[static_cast<size_t>(i)].visit(*this);
      leave_item();
    }
    leave_list();
  }

 protected:
  virtual bool enter(std::string_view name, std::string_view help) = 0;  // false: skip the section
  virtual void leave() = 0;
  // How many items the list gets (size: as many as it has); -1 leaves it alone.
  virtual int64_t enter_list(std::string_view name, int64_t size, std::string_view help) = 0;
  virtual void enter_item(int64_t index) = 0;
  virtual void leave_item() = 0;
  virtual void leave_list() = 0;
  virtual bool replaces_lists() const { return false; }
};

// The rule of lists whose entries count once each; names the first that is there twice.
template <class V, class T>
void require_once(V& v, std::string_view name, const std::vector<T>& values) {
  for (size_t i = 1; i < values.size(); ++i)
    for (size_t k = 0; k < i; ++k)
      if (values[k] == values[i])
        return v.require(false, name, cat("names ", values[i], " twice; leave one out"));
}

// Any options struct, its type forgotten. The struct must outlive it.
using Visit = std::function<void(OptionVisitor&)>;
template <class T>
Visit visit_of(T& options) {
  return [&options](OptionVisitor& v) { options.visit(v); };
}

// Something wrong with a recipe: `parts.where` is file:line:column or the --set that caused it.
struct Problem {
  int line = 0;  // from 1; 0 when it is not in a file
  int column = 0;
  ErrorParts parts;
};

// Where each dotted path was last given a value: "recipe.yaml:3:5" or "--set a.b=c".
using Places = std::map<std::string, Problem>;

// Reads YAML (or JSON) text over the defaults. Whatever is wrong is collected, in the file's order;
// nothing is thrown.
// null_is_default: a key given as null keeps its default (JSON written by other programs).
std::vector<Problem> read_options(const Visit& options, std::string_view yaml,
                                  const std::string& file, Places* places = nullptr,
                                  bool null_is_default = false);
// `assignment`: a.b=c, where c is YAML: a number, a word, [a, b].
std::vector<Problem> set_option(const Visit& options, std::string_view assignment,
                                Places* places = nullptr);
// Required fields and rules; `file` is named where nothing better is known.
std::vector<Problem> check_options(const Visit& options, const Places& places,
                                   const std::string& file);
// Throws the first problem as Error (kUsage), saying how many more there are.
void throw_first(const std::vector<Problem>& problems);

// Every field with its value, as YAML that read_options() reads back to the same values.
std::string options_to_yaml(const Visit& options);

// One line of help or of the table a run starts with.
struct OptionRow {
  std::string path;   // dotted
  std::string type;   // "integer", "number", "word", "list of numbers", "true/false", "section"
  std::string value;  // as YAML
  std::string range;  // "0 .. 1024", "full | head_matched", or empty
  std::string help;
};
std::vector<OptionRow> describe_options(const Visit& options);

}  // namespace kvlingua
