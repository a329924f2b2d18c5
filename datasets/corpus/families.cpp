#include "datasets/corpus/families.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <set>

#include "datasets/corpus/family_content.h"
#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

// What makes two items the same: the asked thing and its value. Phrasing does not count.
std::string content_key(const FamilyContent& content) {
  std::string key = content.group;
  for (const auto& marker : content.markers) key += '\n' + marker;
  return key;
}

std::string item_id(const FamilyRequest& request, int64_t number) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "%06lld", static_cast<long long>(number));
  return cat(request.family, request.split == Split::kTrain ? "-train" : "-heldout",
             request.completion ? "-c-" : "-q-", request.seed, "-", digits);
}

FamilyItem to_item(const FamilyRequest& request, FamilyContent content, int64_t number) {
  FamilyItem item;
  item.id = item_id(request, number);
  item.family = request.family;
  item.completion = request.completion;
  item.prompt = request.completion ? content.beginning : content.question;
  item.answer = request.completion ? content.rest : content.answer();
  item.context = std::move(content.context);
  item.markers = std::move(content.markers);
  item.parametric = std::move(content.parametric);
  item.group = std::move(content.group);
  return item;
}

void check(const FamilyRequest& request) {
  const auto& names = family_names();
  if (std::find(names.begin(), names.end(), request.family) == names.end()) {
    throw Error({.code = ExitCode::kUsage,
                 .where = "family",
                 .what = "unknown family",
                 .got = printable(request.family),
                 .expected = "identity, counterfact or needle"});
  }
  if (request.n < 1) {
    throw Error({.code = ExitCode::kUsage,
                 .where = cat("family ", request.family),
                 .what = "wrong number of items",
                 .got = cat(request.n),
                 .expected = "at least 1"});
  }
}

}  // namespace

const std::vector<std::string>& family_names() {
  static const std::vector<std::string> names = {"identity", "counterfact", "needle"};
  return names;
}

std::string capitalised(std::string text) {
  if (!text.empty()) {
    text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  }
  return text;
}

std::string fill(std::string_view pattern,
                 const std::vector<std::pair<std::string_view, std::string_view>>& values) {
  std::string out;
  for (size_t i = 0; i < pattern.size();) {
    if (pattern[i] != '{') {
      out += pattern[i++];
      continue;
    }
    const size_t end = pattern.find('}', i);
    const std::string_view key = pattern.substr(i + 1, end - i - 1);
    const auto found = std::find_if(values.begin(), values.end(),
                                    [&](const auto& value) { return value.first == key; });
    if (end == std::string_view::npos || found == values.end()) {
      throw Error({.where = cat("template '", pattern, "'"), .what = "unresolved placeholder"});
    }
    out += found->second;
    i = end + 1;
  }
  return out;
}

std::vector<FamilyItem> make_family(const FamilyRequest& request) {
  check(request);
  const bool nano = request.style == FamilyStyle::kNano;
  const uint64_t stream = mix(mix(request.seed, hash_name(request.family)),
                              (nano ? 2 : 0) + (request.split == Split::kTrain ? 0 : 1));
  std::vector<FamilyItem> items;
  std::set<std::string> seen;
  // Draws repeat more and more as the space of items fills up; a long run of repeats means that it
  // is full.
  constexpr int64_t kMaxRepeats = 5000;
  int64_t repeats = 0;
  for (uint64_t draw = 0; static_cast<int64_t>(items.size()) < request.n; ++draw) {
    if (repeats == kMaxRepeats) {
      throw Error({.code = ExitCode::kInput,
                   .where = cat("family ", request.family),
                   .what = "not enough distinct items",
                   .got = cat(items.size()),
                   .expected = cat(request.n),
                   .remedy = "ask for fewer items"});
    }
    Random random(mix(stream, draw));
    FamilyContent content = nano ? nano_content(request.family, request.split, random)
                                 : english_content(request.family, request.split, random);
    if (!seen.insert(content_key(content)).second) {
      ++repeats;
      continue;
    }
    repeats = 0;
    items.push_back(to_item(request, std::move(content), static_cast<int64_t>(items.size())));
  }
  return items;
}

}  // namespace kvlingua
