#include "kvlingua/io/json.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

[[noreturn]] void refuse(const std::string& where, std::string what) {
  throw Error({.code = ExitCode::kCorrupt, .where = where, .what = std::move(what)});
}

// "[json.exception.parse_error.101] parse error at line 1, column 5: syntax ..." without its
// bracketed identifier.
std::string reason(const std::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return printable(end == std::string::npos ? text : text.substr(end + 2), 240);
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& where, size_t max_depth) {
  using Json = nlohmann::json;
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth >= static_cast<int>(max_depth)) {
      refuse(where, cat("JSON nested deeper than ", max_depth, " levels"));
    }
    if (event == Json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second)
        refuse(where, cat("duplicate key \"", printable(key), "\""));
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const Json::exception& error) {
    refuse(where, cat("malformed JSON: ", reason(error)));
  }
}

std::string read_text_file(const std::filesystem::path& path, size_t max_bytes) {
  const auto fail = [&](int error) {
    throw Error({.code = ExitCode::kInput,
                 .where = path.string(),
                 .what = "cannot be read",
                 .got = std::strerror(error)});
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &std::fclose);
  if (!file) fail(errno);
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
