// OptionList over CLI11 (command_line.h).
#include <CLI/CLI.hpp>

#include "kvlingua/config/command_line.h"

namespace kvlingua {

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
  most > 0 ? option->check(CLI::Range(int64_t{1}, most)) : option->check(CLI::PositiveNumber);
}

void OptionList::hidden(const char* name, int64_t& value) {
  app_.add_option(name, value)->group("");
}

}  // namespace kvlingua
