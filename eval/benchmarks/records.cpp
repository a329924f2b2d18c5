// From a file's records to questions with options and a gold answer.
#include <algorithm>
#include <cctype>
#include <functional>

#include "eval/benchmarks/benchmark.h"
#include "kvlingua/base/error.h"
#include "kvlingua/io/json.h"

namespace kvlingua {

namespace {

using nlohmann::json;

// A record that cannot be scored under the gold handling asked for.
struct Skip {};

struct Record {
  const json& fields;
  std::string where;

  [[noreturn]] void refuse(const std::string& what, const std::string& expected) const {
    throw Error({.code = ExitCode::kInput,
                 .where = where,
                 .what = what,
                 .expected = expected,
                 .remedy = "check eval.benchmarks kind and file"});
  }
  bool has(const char* key) const { return fields.contains(key) && !fields.at(key).is_null(); }
  const json& at(const char* key) const {
    if (!fields.is_object() || !has(key))
      refuse(cat("field missing: ", key), "the published fields of this benchmark");
    return fields.at(key);
  }
  std::string text(const char* key) const {
    const json& value = at(key);
    if (value.is_number_integer()) return cat(value.get<int64_t>());
    if (!value.is_string()) refuse(cat(key, " is not text"), "text");
    return value.get<std::string>();
  }
  // A JSON list, or in CSV the text of one: "['a', 'b']" and "[\"a\"]" alike.
  std::vector<std::string> list(const json& value, const char* key) const {
    if (value.is_array()) {
      std::vector<std::string> result;
      for (const auto& entry : value) {
        if (!entry.is_string())
          refuse(cat(key, " holds something that is not text"), "a list of texts");
        result.push_back(entry.get<std::string>());
      }
      return result;
    }
    if (value.is_string()) return python_list(value.get<std::string>(), key);
    refuse(cat(key, " is not a list"), "a list of texts");
  }
  std::vector<std::string> python_list(const std::string& text, const char* key) const {
    std::vector<std::string> result;
    for (size_t i = 0; i < text.size(); ++i) {
      const char quote = text[i];
      if (quote != '\'' && quote != '"') continue;
      std::string entry;
      for (++i; i < text.size() && text[i] != quote; ++i)
        entry += text[i] == '\\' && i + 1 < text.size() ? text[++i] : text[i];
      if (i >= text.size()) refuse(cat(key, " is cut off"), "a list of texts");
      result.push_back(entry);
    }
    return result;
  }
};

// Position of an answer key among labels; numbered keys count only where they may.
size_t key_to_index(const std::string& key, const std::vector<std::string>& labels, size_t options,
                    bool c2c) {
  if (c2c) {
    if (key.size() != 1 || key[0] < 'A' || key[0] > 'D') throw Skip{};
    return static_cast<size_t>(key[0] - 'A');
  }
  const auto label = std::find(labels.begin(), labels.end(), key);
  if (label != labels.end()) return static_cast<size_t>(label - labels.begin());
  if (key.size() == 1 && key[0] >= 'A' && static_cast<size_t>(key[0] - 'A') < options)
    return static_cast<size_t>(key[0] - 'A');
  throw Skip{};
}

Choice mmlu_redux(const Record& record, bool c2c) {
  Choice item;
  item.question = record.text("question");
  item.options = record.list(record.at("choices"), "choices");
  if (record.has("subject")) item.subject = record.text("subject");
  const std::string answer = record.text("answer");
  const std::string error = record.has("error_type") ? record.text("error_type") : "ok";
  const auto index_of = [&](std::string key) {
    while (!key.empty() && std::isspace(static_cast<unsigned char>(key.back()))) key.pop_back();
    if (key.size() == 1 && std::isdigit(static_cast<unsigned char>(key[0])))
      return static_cast<size_t>(key[0] - '0');
    if (key.size() == 1 && key[0] >= 'A' && key[0] <= 'Z') return static_cast<size_t>(key[0] - 'A');
    const auto same = std::find(item.options.begin(), item.options.end(), key);
    if (same == item.options.end()) throw Skip{};
    return static_cast<size_t>(same - item.options.begin());
  };
  const bool corrected = error == "wrong_groundtruth" && record.has("correct_answer") &&
                         !record.text("correct_answer").empty();
  if (error == "no_correct_answer" || error == "expert") throw Skip{};
  if (!c2c && error != "ok" && !corrected)
    throw Skip{};  // the published label is not to be trusted
  item.gold = index_of(corrected ? record.text("correct_answer") : answer);
  return item;
}

Choice labelled(const Record& record, bool c2c) {  // openbookqa, arc_c
  Choice item;
  const json* holder = &record.fields;
  if (record.has("question_stem")) {
    item.question = record.text("question_stem");
  } else if (record.at("question").is_object()) {
    holder = &record.at("question");
    item.question = Record{*holder, record.where}.text("stem");
  } else {
    item.question = record.text("question");
  }
  const Record from{*holder, record.where};
  const json& choices = from.at("choices");
  std::vector<std::string> labels;
  if (choices.is_object()) {
    item.options = record.list(Record{choices, record.where}.at("text"), "choices.text");
    labels = record.list(Record{choices, record.where}.at("label"), "choices.label");
  } else if (choices.is_array()) {
    for (const auto& entry : choices) {
      item.options.push_back(Record{entry, record.where}.text("text"));
      labels.push_back(Record{entry, record.where}.text("label"));
    }
  } else {
    record.refuse("choices are neither a list nor text and labels", "choices {text, label}");
  }
  item.gold = key_to_index(record.text("answerKey"), labels, item.options.size(), c2c);
  return item;
}

Choice ceval(const Record& record, bool c2c) {
  Choice item;
  item.question = record.text("question");
  for (const char* key : {"A", "B", "C", "D"}) item.options.push_back(record.text(key));
  if (record.has("subject")) item.subject = record.text("subject");
  item.gold = key_to_index(record.text("answer"), {}, 4, c2c);
  return item;
}

Choice hellaswag(const Record& record, bool) {
  Choice item;
  item.question = record.text("ctx");
  item.options = record.list(record.at("endings"), "endings");
  const std::string label = record.text("label");
  if (label.empty()) throw Skip{};  // the test split has none
  item.gold = label.size() == 1 && std::isdigit(static_cast<unsigned char>(label[0]))
                  ? static_cast<size_t>(label[0] - '0')
                  : item.options.size();
  return item;
}

}  // namespace

ChoiceSet parse_choices(std::string_view text, bool csv, const BenchmarkOptions& options,
                        const std::string& where) {
  using Reader = Choice (*)(const Record&, bool);
  const Reader reader = options.kind == "mmlu_redux"  ? &mmlu_redux
                        : options.kind == "ceval"     ? &ceval
                        : options.kind == "hellaswag" ? &hellaswag
                                                      : &labelled;
  ChoiceSet set;
  const auto add = [&](const json& fields, int64_t line) {
    if (options.limit > 0 && static_cast<int64_t>(set.items.size()) >= options.limit) return;
    const Record record{fields, cat(where, ":", line)};
    try {
      Choice item = reader(record, options.gold == "c2c");
      if (item.options.size() < 2 || item.gold >= item.options.size())
        record.refuse("the answer is none of the options", cat("0 to ", item.options.size()));
      item.id = cat(options.kind, "-", line);
      set.items.push_back(std::move(item));
    } catch (const Skip&) {
      ++set.skipped;
    }
  };
  if (csv) {
    const auto rows = parse_csv(text, where);
    for (size_t r = 1; r < rows.size(); ++r) {
      json fields = json::object();
      for (size_t c = 0; c < rows[0].size() && c < rows[r].size(); ++c)
        fields[rows[0][c]] = rows[r][c];
      add(fields, static_cast<int64_t>(r) + 1);
    }
  } else {
    int64_t line = 0;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      ++line;
      const std::string_view one = text.substr(begin, end - begin);
      if (one.find_first_not_of(" \t\r") != std::string_view::npos)
        add(parse_json_line(one, where, line), line);
      begin = end + 1;
    }
  }
  if (set.items.empty())
    throw Error({.code = ExitCode::kInput,
                 .where = where,
                 .what = "no usable question",
                 .got = cat(set.skipped, " skipped"),
                 .expected = "one at least"});
  return set;
}

ChoiceSet read_choices(const BenchmarkOptions& options) {
  const std::filesystem::path file = options.file;
  return parse_choices(read_text_file(file, size_t{512} << 20), file.extension() == ".csv", options,
                       file.string());
}

}  // namespace kvlingua
