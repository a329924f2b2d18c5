// OptionList over CLI11 (command_line.h).
#include <CLI/CLI.hpp>
#include <charconv>
#include <limits>

#include "kvlingua/base/error.h"
#include "kvlingua/config/command_line.h"

namespace kvlingua {

// CLI11 names a range of doubles, and takes what is above an int64 for its largest value.
std::string whole_number_range(const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (whole && value >= least && value <= most) return {};
  return cat("got ", printable(text, 60), ", expected a whole number from ", least, " to ", most);
}

void OptionList::arguments(const char* name, const char* help, int least, int most) {
  CLI::Option* option = app_.add_option(name, command_.arguments, help)->required(least > 0);
  least == most ? option->expected(least) : option->expected(least, most);
}

void OptionList::named_arguments(const char* name, const char* help, int least, int most) {
  arguments(name, help, least, most);
  app_.get_option(name)->type_name("");
}

void OptionList::flag(const char* name, bool& value, const char* help, const char* excludes) {
  CLI::Option* option = app_.add_flag(name, value, help);
  if (excludes != nullptr) option->excludes(app_.get_option(excludes));
}

void OptionList::flag(const char* name, std::vector<std::string>& named, const char* help) {
  const std::string word = std::string(name).substr(2);
  app_.add_flag_callback(
      name, [&named, word] { named.push_back(word); }, help);
}

void OptionList::text(const char* name, std::string& value, const char* type,
                      const std::string& help, const std::vector<std::string>& choices) {
  CLI::Option* option = app_.add_option(name, value, help)->type_name(type);
  if (!choices.empty()) option->check(CLI::IsMember(choices));
}

void OptionList::require(const char* name) { app_.get_option(name)->required(); }

void OptionList::texts(const char* name, std::vector<std::string>& values, const char* type,
                       const char* help) {
  words(name, values, 1, type, help);
  app_.get_option(name)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void OptionList::words(const char* name, std::vector<std::string>& values, int count,
                       const char* type, const char* help) {
  app_.add_option(name, values, help)->expected(count)->type_name(type);
}

void OptionList::number(const char* name, int64_t& value, const char* help, int64_t most) {
  CLI::Option* option = app_.add_option(name, value, help)->type_name("N");
  option->check([most](const std::string& text) {
    return whole_number_range(text, 1, most > 0 ? most : std::numeric_limits<int64_t>::max());
  });
}

void OptionList::hidden(const char* name, int64_t& value) {
  app_.add_option(name, value)->group("");
}

}  // namespace kvlingua
