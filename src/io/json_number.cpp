#include "kvlingua/io/json_number.h"

namespace kvlingua {

JsonFieldError::JsonFieldError(std::string got, std::string expected)
    : exception(502, "a member of a wrong kind"),
      got_(std::move(got)),
      expected_(std::move(expected)),
      text_(cat("got ", got_, ", expected ", expected_)) {}

void JsonFieldError::within(const std::string& member) {
  const bool joined = field_.empty() || field_.front() == '[';
  field_ = cat(member, joined ? "" : ".", field_);
  text_ = cat(field_, ": got ", got_, ", expected ", expected_);
}

double number_within(const nlohmann::json& value, double least, double most) {
  if (value.is_number()) {
    const auto number = value.get<double>();
    if (number >= least && number <= most) return number;
  }
  throw JsonFieldError(printable(value.dump(), 60), cat("a number from ", least, " to ", most));
}

std::string text_of_json(const nlohmann::json& value) {
  constexpr size_t kMost = size_t{64} << 10;
  if (!value.is_string()) throw JsonFieldError(printable(value.dump(), 60), "a text");
  const auto& text = value.get_ref<const std::string&>();
  if (text.size() > kMost) throw JsonFieldError(cat(text.size(), " bytes"), "a text of 64 KiB");
  return text;
}

std::string json_reason(const nlohmann::json::exception& error) {
  const std::string text = error.what();
  const size_t end = text.find("] ");
  return printable(end == std::string::npos ? text : text.substr(end + 2), 240);
}

Error corrupt_field(const nlohmann::json::exception& error, const std::string& where,
                    std::string what, std::string remedy) {
  ErrorParts parts{.code = ExitCode::kCorrupt,
                   .where = where,
                   .what = std::move(what),
                   .remedy = std::move(remedy)};
  if (const auto* field = dynamic_cast<const JsonFieldError*>(&error)) {
    if (!field->field().empty()) parts.where += cat(": ", printable(field->field()));
    parts.got = field->got();
    parts.expected = field->expected();
  } else {
    parts.got = json_reason(error);
  }
  return Error(std::move(parts));
}

}  // namespace kvlingua
