#include "datasets/corpus/text_passages.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

constexpr size_t kMost = size_t{4} << 30;
constexpr size_t kNeighbours = 64;

[[noreturn]] void unusable(const std::string& path, const std::string& what,
                           const std::string& remedy) {
  throw Error({.code = ExitCode::kInput, .where = path, .what = what, .remedy = remedy});
}

// gzip's own reader passes plain files through.
std::string read_text(const std::string& path, size_t limit) {
  if (std::filesystem::is_directory(path))
    unusable(path, "is a folder", "name the files in it under data.files");
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr)
    unusable(path, cat("cannot be read: ", std::strerror(errno)), "check data.files");
  std::string text, block(size_t{1} << 20, '\0');
  int read = 0;
  while ((read = gzread(file, block.data(), static_cast<unsigned>(block.size()))) > 0 &&
         text.size() <= limit)
    text.append(block, 0, static_cast<size_t>(read));
  const int closed = gzclose_r(file);  // Z_BUF_ERROR: it ends in the middle
  if (read < 0 || closed != Z_OK) unusable(path, "the gzip file is damaged", "fetch it again");
  if (text.size() > limit)
    unusable(path, "too much text for the memory it is kept in", "use a JSONL file (kind jsonl)");
  if (const auto at = find_invalid_utf8(text))
    unusable(path, cat("not UTF-8 at byte ", *at), "convert it: iconv -t UTF-8");
  return text;
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// Where the passage that begins at `begin` ends, `hard` at the latest.
size_t end_of_passage(std::string_view text, size_t begin, size_t hard) {
  if (hard >= text.size()) return text.size();
  const size_t least = begin + (hard - begin) / 2;
  for (size_t i = hard; i > least; --i)
    if (text[i] == '\n' && text[i - 1] == '\n') return i;
  for (size_t i = hard; i > least; --i)
    if (is_space(text[i]) && std::strchr(".!?", text[i - 1]) != nullptr) return i;
  for (size_t i = hard; i > begin; --i)
    if (is_space(text[i])) return i;
  size_t end = hard;
  while (end > begin + 1 && !begins_character(text[end])) --end;
  return end;
}

class Passages : public Corpus {
 public:
  explicit Passages(const DataOptions& options) : passage_(options.passage) {
    Sha256 hash;
    size_t left = kMost;
    for (const std::string& path : options.files) {
      texts_.push_back(read_text(path, left));
      left -= texts_.back().size();
      names_.push_back(std::filesystem::path(path).filename().string());
      hash.update(texts_.back());
      for (const auto& [begin, end] : cut_passages(texts_.back(), static_cast<size_t>(passage_)))
        places_.push_back({texts_.size() - 1, begin, end});
    }
    sha256_ = hash.hex();
    if (places_.empty()) {
      throw Error({.code = ExitCode::kInput,
                   .where = options.files.empty() ? "data.files" : options.files.front(),
                   .what = "the corpus is empty",
                   .got = "no text in any file",
                   .remedy = "name files that hold text under data.files"});
    }
  }

  int64_t size() const override { return static_cast<int64_t>(places_.size()); }
  Document read(int64_t i) const override {
    const Place& place = places_[static_cast<size_t>(i)];
    Document document;
    document.text = texts_[place.text].substr(place.begin, place.end - place.begin);
    document.group = cat(names_[place.text], ":", static_cast<size_t>(i) / kNeighbours);
    return document;
  }
  std::string place(int64_t i) const override {
    const Place& place = places_[static_cast<size_t>(i)];
    return cat(names_[place.text], ": byte ", place.begin);
  }
  nlohmann::json describe() const override {
    return {{"kind", "text"},
            {"files", names_},
            {"passage", passage_},
            {"sha256", sha256_},
            {"documents", size()}};
  }

 private:
  struct Place {
    size_t text, begin, end;
  };
  int64_t passage_;
  std::vector<std::string> texts_, names_;
  std::vector<Place> places_;
  std::string sha256_;
};

}  // namespace

std::vector<std::pair<size_t, size_t>> cut_passages(std::string_view text, size_t limit) {
  std::vector<std::pair<size_t, size_t>> passages;
  size_t begin = text.size() - without_bom(text).size();
  while (true) {
    while (begin < text.size() && is_space(text[begin])) ++begin;
    if (begin >= text.size()) return passages;
    const size_t next = end_of_passage(text, begin, begin + limit);
    size_t end = next;
    while (end > begin && is_space(text[end - 1])) --end;
    passages.emplace_back(begin, end);
    begin = next;
  }
}

std::unique_ptr<Corpus> open_passages(const DataOptions& options) {
  return std::make_unique<Passages>(options);
}

}  // namespace kvlingua
