#include "kvlingua/io/json.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/io/json_number.h"

namespace kvlingua {
namespace {

// nlohmann's parser does not tell its handler where it stands, so the text it reads tells: this is
// an iterator over it that notes how far it has come.
class Counted {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  Counted(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  Counted& operator++() {
    ++at_;
    *furthest_ = std::max(*furthest_, at_);
    return *this;
  }
  Counted operator++(int) {
    const Counted before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const Counted& a, const Counted& b) { return a.at_ == b.at_; }
  friend bool operator!=(const Counted& a, const Counted& b) { return a.at_ != b.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

// "... at line 1, column 5: syntax error while parsing value - invalid literal; last read: 'x';
// expected ..." in parts: what stands there, and what could.
std::pair<std::string, std::string> got_and_expected(const nlohmann::detail::exception& error) {
  const std::string text = json_reason(error);
  const size_t dash = text.find(" - "), expected = text.find("; expected ");
  if (dash == std::string::npos) return {text, {}};
  const size_t end = expected == std::string::npos ? text.size() : expected;
  return {text.substr(dash + 3, end - dash - 3),
          expected == std::string::npos ? std::string() : text.substr(expected + 11)};
}

constexpr const char* kRemedy = "mend that place, or get the file anew";

// Builds the value while parsing, so that depth and repeated keys are seen as they come. Of either
// kind of nlohmann's JSON: members sorted, or in their order.
template <class Json>
class Builder : public nlohmann::json_sax<Json> {
 public:
  using typename nlohmann::json_sax<Json>::number_integer_t;
  using typename nlohmann::json_sax<Json>::number_unsigned_t;
  using typename nlohmann::json_sax<Json>::number_float_t;
  using typename nlohmann::json_sax<Json>::string_t;
  using typename nlohmann::json_sax<Json>::binary_t;
  // `line`: of the file, where the text is one line of it; 0: the text is the file.
  Builder(std::string_view text, const std::string& where, size_t max_depth, size_t line)
      : text_(text), where_(where), max_depth_(max_depth), line_(line), at_(text.data()) {}

  Counted begin() { return {text_.data(), &at_}; }
  Counted end() { return {text_.data() + text_.size(), &at_}; }

  Json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto& members = *open_.back()->template get_ptr<typename Json::object_t*>();
    const auto [it, fresh] = members.emplace(std::move(name), nullptr);
    if (!fresh) refuse(cat("duplicate key \"", printable(it->first), "\""));
    slot_ = &it->second;
    return true;
  }

  // `position` is that of the token, where the text was read one character further.
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    at_ = text_.data() + std::min(position, text_.size());
    auto [got, expected] = got_and_expected(error);
    refuse("malformed JSON", std::move(got), std::move(expected));
    return false;
  }

 private:
  // Where the parser stands: behind the last character it has read.
  std::string place() const {
    const std::string_view read = text_.substr(0, static_cast<size_t>(at_ - text_.data()));
    const size_t line = 1 + static_cast<size_t>(std::count(read.begin(), read.end(), '\n'));
    const size_t start = read.rfind('\n');
    const size_t column = start == std::string_view::npos ? read.size() : read.size() - start - 1;
    return cat(where_, ":", line_ > 0 ? line_ : line, ":", std::max<size_t>(column, 1));
  }
  [[noreturn]] void refuse(std::string what, std::string got = {},
                           std::string expected = {}) const {
    throw Error({.code = ExitCode::kCorrupt,
                 .where = place(),
                 .what = std::move(what),
                 .got = std::move(got),
                 .expected = std::move(expected),
                 .remedy = kRemedy});
  }

  Json* place(Json&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      auto& elements = *open_.back()->template get_ptr<typename Json::array_t*>();
      elements.push_back(std::move(value));
      return &elements.back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  template <class T>
  bool put(T&& value) {
    place(Json(std::forward<T>(value)));
    return true;
  }

  bool open(Json&& empty) {
    if (open_.size() >= max_depth_) refuse(cat("JSON nested deeper than ", max_depth_, " levels"));
    open_.push_back(place(std::move(empty)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  const std::string& where_;
  size_t max_depth_, line_;
  const char* at_;
  Json root_;
  std::vector<Json*> open_;  // pointers stay valid: only the innermost container grows
  Json* slot_ = nullptr;
};

template <class Json>
Json parse_as(std::string_view text, const std::string& where, size_t max_depth, size_t line = 0) {
  Builder<Json> builder(text, where, max_depth, line);
  Json::sax_parse(builder.begin(), builder.end(), &builder);
  return builder.take();
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& where, size_t max_depth) {
  return parse_as<nlohmann::json>(text, where, max_depth);
}

nlohmann::json parse_json_line(std::string_view text, const std::string& where, size_t line) {
  return parse_as<nlohmann::json>(text, where, 64, line);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& where,
                                          size_t max_depth) {
  return parse_as<nlohmann::ordered_json>(text, where, max_depth);
}

std::string read_text_file(const std::filesystem::path& path, size_t max_bytes) {
  const auto fail = [&](int error) {
    throw Error({.code = ExitCode::kInput,
                 .where = path.string(),
                 .what = "cannot be read",
                 .got = std::strerror(error)});
  };
  // Without O_NONBLOCK a FIFO that nobody writes to would be waited for, for ever.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail(errno);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(::fdopen(fd, "rb"), &std::fclose);
  if (!file) fail(errno);
  struct stat status {};
  if (::fstat(fd, &status) == 0 && !S_ISREG(status.st_mode)) {
    throw Error({.code = ExitCode::kInput,
                 .where = path.string(),
                 .what = "cannot be read",
                 .got = S_ISDIR(status.st_mode) ? "a folder" : "no regular file",
                 .expected = "a file"});
  }
  std::string text;
  std::vector<char> block(1 << 16);
  size_t n = 0;
  while ((n = std::fread(block.data(), 1, block.size(), file.get())) > 0) {
    text.append(block.data(), n);
    if (text.size() > max_bytes) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = path.string(),
                   .what = "file too large to be what it should be",
                   .expected = cat("at most ", max_bytes, " bytes")});
    }
  }
  if (std::ferror(file.get()) != 0) fail(errno);
  return text;
}

}  // namespace kvlingua
