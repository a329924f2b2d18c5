#include "kvlingua/io/json.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

// "[json.exception.parse_error.101] parse error at line 1, column 5: syntax ..." without its
// bracketed identifier.
std::string reason(const std::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return printable(end == std::string::npos ? text : text.substr(end + 2), 240);
}

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
  Builder(const std::string& where, size_t max_depth) : where_(where), max_depth_(max_depth) {}

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

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    refuse(cat("malformed JSON: ", reason(error)));
    return false;
  }

 private:
  [[noreturn]] void refuse(std::string what) const {
    throw Error({.code = ExitCode::kCorrupt, .where = where_, .what = std::move(what)});
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

  const std::string& where_;
  size_t max_depth_;
  Json root_;
  std::vector<Json*> open_;  // pointers stay valid: only the innermost container grows
  Json* slot_ = nullptr;
};

template <class Json>
Json parse_as(std::string_view text, const std::string& where, size_t max_depth) {
  Builder<Json> builder(where, max_depth);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& where, size_t max_depth) {
  return parse_as<nlohmann::json>(text, where, max_depth);
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
