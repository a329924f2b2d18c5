#include "eval/answers/scoring.h"

#include <algorithm>
#include <cctype>

#include "eval/items/probe.h"

namespace kvlingua {

namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

bool has_content(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return is_word(c) || static_cast<unsigned char>(c) >= 0x80; });
}

// The answer begins by saying the prompt again, or is nothing but a part of it of three words or
// more.
bool echoes(const std::vector<std::string>& answer, const std::vector<std::string>& prompt) {
  if (answer.size() < 3 || prompt.size() < 3) return false;
  if (answer.size() >= prompt.size())
    return std::equal(prompt.begin(), prompt.end(), answer.begin());
  return std::search(prompt.begin(), prompt.end(), answer.begin(), answer.end()) != prompt.end();
}

}  // namespace

std::string normalise(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const auto next = [&](size_t k) {
      return i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0;
    };
    if (c == 0xE2 && next(1) == 0x82 && next(2) >= 0x80 &&
        next(2) <= 0x89) {  // U+2080..2089, subscript digits
      out += static_cast<char>('0' + (next(2) - 0x80));
      i += 2;
    } else if (c == 0xE2 && next(1) == 0x80 &&
               (next(2) == 0x98 || next(2) == 0x99)) {  // curly apostrophes
      out += '\'';
      i += 2;
    } else if (c == ' ' || (c >= '\t' && c <= '\r')) {
      if (!out.empty() && out.back() != ' ') out += ' ';
    } else {
      out += static_cast<char>(c < 0x80 ? std::tolower(c) : c);
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

std::vector<std::string> words_of(std::string_view normalised) {
  std::vector<std::string> words;
  std::string word;
  for (char c : normalised) {
    if (is_word(c) || static_cast<unsigned char>(c) >= 0x80) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

bool occurs(std::string_view text, std::string_view marker) {
  const std::string hay = normalise(text), needle = normalise(marker);
  if (needle.empty()) return false;
  for (size_t at = hay.find(needle); at != std::string::npos; at = hay.find(needle, at + 1)) {
    const size_t end = at + needle.size();
    const bool glued_before = at > 0 && is_word(hay[at - 1]) && is_word(needle.front());
    const bool glued_after = end < hay.size() && is_word(hay[end]) && is_word(needle.back());
    if (!glued_before && !glued_after) return true;
  }
  return false;
}

const char* to_string(Stall stall) {
  switch (stall) {
    case Stall::kNone:
      return "none";
    case Stall::kEmpty:
      return "empty";
    case Stall::kEndOfTurnFirst:
      return "end_of_turn_first";
    case Stall::kEcho:
      return "echo";
    case Stall::kRepetition:
      return "repetition";
    case Stall::kNoContent:
      return "no_content";
  }
  return "none";
}

std::string stall_definition() {
  return "An answer is stalled when it is end_of_turn_first (the first token ends the turn), empty "
         "(white space only), "
         "no_content (no letter or digit), echo (it begins with the whole prompt, or is nothing "
         "but three or more consecutive "
         "words of it), or repetition (a cycle of words fills at least the last half of the answer "
         "and runs at least three "
         "times, over eight words or more). The first that holds is counted.";
}

int64_t repetition_period(const std::vector<std::string>& words) {
  const auto n = static_cast<int64_t>(words.size());
  if (n < 8) return 0;
  for (int64_t period = 1; 3 * period <= n; ++period) {
    int64_t run = 0;  // how many words at the end equal the word one period before
    while (run + period < n && words[static_cast<size_t>(n - 1 - run)] ==
                                   words[static_cast<size_t>(n - 1 - run - period)])
      ++run;
    const int64_t covered = run + period;
    if (covered >= 3 * period && covered >= 8 && 2 * covered >= n) return period;
  }
  return 0;
}

Stall stall_of(std::string_view text, std::string_view prompt, int64_t tokens, bool stopped) {
  if (tokens == 0) return stopped ? Stall::kEndOfTurnFirst : Stall::kEmpty;
  if (normalise(text).empty()) return Stall::kEmpty;
  if (!has_content(text)) return Stall::kNoContent;
  const auto words = words_of(normalise(text));
  if (echoes(words, words_of(normalise(prompt)))) return Stall::kEcho;
  if (repetition_period(words) > 0) return Stall::kRepetition;
  return Stall::kNone;
}

const char* to_string(Knowledge knowledge) {
  switch (knowledge) {
    case Knowledge::kInjected:
      return "injected";
    case Knowledge::kParametric:
      return "parametric";
    case Knowledge::kBoth:
      return "both";
    case Knowledge::kOther:
      return "other";
  }
  return "other";
}

Score score(const Probe& probe, std::string_view text, int64_t tokens, bool stopped) {
  Score result;
  int64_t found = 0;
  for (const auto& marker : probe.markers) found += occurs(text, marker);
  result.partial = probe.markers.empty()
                       ? 0
                       : static_cast<double>(found) / static_cast<double>(probe.markers.size());
  result.exact = !probe.markers.empty() && found == static_cast<int64_t>(probe.markers.size());
  result.parametric = std::any_of(probe.parametric.begin(), probe.parametric.end(),
                                  [&](const std::string& known) { return occurs(text, known); });
  result.knowledge = result.exact
                         ? (result.parametric ? Knowledge::kBoth : Knowledge::kInjected)
                         : (result.parametric ? Knowledge::kParametric : Knowledge::kOther);
  result.stall = stall_of(text, probe.prompt, tokens, stopped);
  return result;
}

}  // namespace kvlingua
