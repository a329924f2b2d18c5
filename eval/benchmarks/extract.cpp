// Which option a generated answer chooses: Cache-to-Cache's cascade as its evaluator applies it
// (c2c), and a stricter default.
#include <algorithm>
#include <array>
#include <cctype>

#include "eval/benchmarks/benchmark.h"

namespace kvlingua {

namespace {

bool space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }
bool word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
char upper(char c) { return static_cast<char>(std::toupper(static_cast<unsigned char>(c))); }

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  return text;
}

bool boundary_before(std::string_view text, size_t at) { return at == 0 || !word(text[at - 1]); }
bool boundary_after(std::string_view text, size_t at) {
  return at + 1 >= text.size() || !word(text[at + 1]);
}
size_t skip_spaces(std::string_view text, size_t at) {
  while (at < text.size() && space(text[at])) ++at;
  return at;
}
bool closing(char c) { return std::string_view(".,!?:)").find(c) != std::string_view::npos; }

// Letters A-D (either case) at places where `fits` holds; the last one, or 0.
template <class Fits>
char last_letter(std::string_view text, const Fits& fits) {
  for (size_t i = text.size(); i-- > 0;)
    if (upper(text[i]) >= 'A' && upper(text[i]) <= 'D' && fits(i)) return upper(text[i]);
  return 0;
}

// Looks like arithmetic and says nothing of an answer: a lone letter is then a variable.
bool looks_like_arithmetic(std::string_view text) {
  static constexpr std::array kSigns = {"+",   "-",    "*",   "/",   "=",  "^",
                                        "mod", "sqrt", "sin", "cos", "tan"};
  static constexpr std::array kCues = {"jibu",     "answer",  "choice", "option",
                                       "response", "correct", "sahihi"};
  const std::string low = lower(text);
  const bool signs = std::any_of(kSigns.begin(), kSigns.end(), [&](const char* s) {
    return text.find(s) != std::string_view::npos;
  });
  const bool cues = std::any_of(kCues.begin(), kCues.end(),
                                [&](const char* s) { return low.find(s) != std::string::npos; });
  return signs && !cues;
}

char c2c_letter(std::string_view text) {
  text = trimmed(text);
  // In this order, whatever the case; the first place of each only.
  static constexpr std::array kCues = {
      "answer:",         "your answer:", "the answer is", "correct answer is", "correct answer is:",
      "correct answer:", "jibu lako:",   "jibu:",         "jibu sahihi:",      "response:",
      "choice:",         "option:"};
  const std::string low = lower(text);
  for (const char* cue : kCues) {
    const size_t found = low.find(cue);
    if (found == std::string::npos) continue;
    for (size_t i = skip_spaces(text, found + std::string_view(cue).size());
         i < text.size() && text[i] != '\n'; ++i)
      if (text[i] >= 'A' && text[i] <= 'D') return text[i];
  }
  const auto at_end = [&](size_t i) {
    size_t next = skip_spaces(text, i + 1);
    if (next < text.size() && closing(text[next])) next = skip_spaces(text, next + 1);
    return boundary_before(text, i) && next == text.size();
  };
  const auto before_mark = [&](size_t i) {
    const size_t next = skip_spaces(text, i + 1);
    return boundary_before(text, i) && next + 1 < text.size() && closing(text[next]) &&
           space(text[next + 1]);
  };
  const bool arithmetic = looks_like_arithmetic(text);
  if (!arithmetic) {
    if (const char letter = last_letter(text, at_end)) return letter;
    if (const char letter = last_letter(text, before_mark)) return letter;
  }
  if (const char letter = last_letter(
          text, [&](size_t i) { return boundary_before(text, i) && boundary_after(text, i); }))
    return arithmetic ? 0 : letter;
  for (size_t i = text.size(); i-- > 0;)
    if (text[i] >= 'A' && text[i] <= 'D') return text[i];
  return 0;
}

// The first lone capital after the word "answer"; else the first lone capital, if the text begins
// with it or holds no other.
int plain_choice(std::string_view text, size_t options) {
  text = trimmed(text);
  std::vector<std::pair<size_t, int>> lone;
  for (size_t i = 0; i < text.size(); ++i) {
    const int index = text[i] - 'A';
    if (index >= 0 && index < static_cast<int>(options) && boundary_before(text, i) &&
        boundary_after(text, i))
      lone.emplace_back(i, index);
  }
  if (lone.empty()) return -1;
  const size_t cue = lower(text).find("answer");
  if (cue != std::string::npos)
    for (const auto& [at, index] : lone)
      if (at > cue) return index;
  const bool first = lone.front().first == 0 || (lone.front().first == 1 && text[0] == '(');
  const bool only = std::all_of(lone.begin(), lone.end(),
                                [&](const auto& one) { return one.second == lone.front().second; });
  return first || only ? lone.front().second : -1;
}

}  // namespace

int extract_choice(std::string_view text, size_t options, bool c2c) {
  if (!c2c) return plain_choice(text, options);
  const char letter = c2c_letter(text);
  return letter == 0 || static_cast<size_t>(letter - 'A') >= options ? -1 : letter - 'A';
}

}  // namespace kvlingua
