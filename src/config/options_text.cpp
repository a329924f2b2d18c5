// Options as text: the resolved YAML, and rows for help and tables.
#include <cmath>

#include "kvlingua/config/options.h"
#include "scalar.h"

namespace kvlingua {
namespace {

using namespace config_detail;

std::string text_of(bool value) { return value ? "true" : "false"; }
std::string text_of(int64_t value) { return std::to_string(value); }
std::string text_of(double value) { return number_text(value); }
std::string text_of(const std::string& value) { return quoted_word(value); }
template <class T>
std::string text_of(const std::vector<T>& values) {
  std::string text;
  for (const T& value : values) text += (text.empty() ? "" : ", ") + text_of(value);
  return "[" + text + "]";
}

class Writer : public OptionVisitor {
 public:
  void field(std::string_view name, bool& v, const FieldInfo&) override { line(name, text_of(v)); }
  void field(std::string_view name, int64_t& v, const FieldInfo&) override {
    line(name, text_of(v));
  }
  void field(std::string_view name, double& v, const FieldInfo&) override {
    line(name, text_of(v));
  }
  void field(std::string_view name, std::string& v, const FieldInfo&) override {
    line(name, text_of(v));
  }
  void field(std::string_view name, std::vector<int64_t>& v, const FieldInfo&) override {
    line(name, text_of(v));
  }
  void field(std::string_view name, std::vector<double>& v, const FieldInfo&) override {
    line(name, text_of(v));
  }
  void field(std::string_view name, std::vector<std::string>& v, const FieldInfo&) override {
    line(name, text_of(v));
  }
  std::string text;

 protected:
  bool enter(std::string_view name, std::string_view) override {
    line(name, "");
    indent_ += 2;
    return true;
  }
  void leave() override { indent_ -= 2; }
  int64_t enter_list(std::string_view name, int64_t size, std::string_view) override {
    line(name, size == 0 ? "[]" : "");
    indent_ += 4;
    return size;
  }
  void enter_item(int64_t) override { dash_ = true; }
  void leave_item() override { dash_ = false; }
  void leave_list() override { indent_ -= 4; }

 private:
  void line(std::string_view name, const std::string& value) {
    text += dash_ ? std::string(indent_ - 2, ' ') + "- " : std::string(indent_, ' ');
    dash_ = false;
    text += std::string(name) + ":" + (value.empty() ? "" : " " + value) + "\n";
  }
  size_t indent_ = 0;
  bool dash_ = false;
};

class Describer : public OptionVisitor {
 public:
  void field(std::string_view n, bool& v, const FieldInfo& i) override {
    row(n, "true/false", text_of(v), i);
  }
  void field(std::string_view n, int64_t& v, const FieldInfo& i) override {
    row(n, i.bytes ? "size" : "integer", text_of(v), i);
  }
  void field(std::string_view n, double& v, const FieldInfo& i) override {
    row(n, "number", text_of(v), i);
  }
  void field(std::string_view n, std::string& v, const FieldInfo& i) override {
    row(n, "word", text_of(v), i);
  }
  void field(std::string_view n, std::vector<int64_t>& v, const FieldInfo& i) override {
    row(n, "list of integers", text_of(v), i);
  }
  void field(std::string_view n, std::vector<double>& v, const FieldInfo& i) override {
    row(n, "list of numbers", text_of(v), i);
  }
  void field(std::string_view n, std::vector<std::string>& v, const FieldInfo& i) override {
    row(n, "list of words", text_of(v), i);
  }
  std::vector<OptionRow> rows;

 protected:
  bool enter(std::string_view name, std::string_view help) override {
    rows.push_back({path(name), "section", "", "", std::string(help)});
    paths_.push_back(path(name));
    return true;
  }
  void leave() override { paths_.pop_back(); }
  int64_t enter_list(std::string_view name, int64_t size, std::string_view help) override {
    rows.push_back({path(name), "list of sections", size == 0 ? "[]" : "", "", std::string(help)});
    paths_.push_back(path(name));
    return size;
  }
  void enter_item(int64_t index) override {
    paths_.push_back(paths_.back() + "[" + std::to_string(index) + "]");
  }
  void leave_item() override { paths_.pop_back(); }
  void leave_list() override { paths_.pop_back(); }

 private:
  std::string path(std::string_view name) const {
    return paths_.empty() ? std::string(name) : paths_.back() + "." + std::string(name);
  }
  void row(std::string_view name, std::string type, std::string value, const FieldInfo& info) {
    rows.push_back(
        {path(name), std::move(type), std::move(value), range_text(info), std::string(info.help)});
  }
  std::vector<std::string> paths_;
};

}  // namespace

std::string options_to_yaml(const Visit& options) {
  Writer writer;
  options(writer);
  return writer.text;
}

std::vector<OptionRow> describe_options(const Visit& options) {
  Describer describer;
  options(describer);
  return describer.rows;
}

}  // namespace kvlingua
