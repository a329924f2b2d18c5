#include "jinja.h"

#include "jinja/machine.h"
#include "jinja/tree.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/utf8.h"

namespace kvlingua::text {

void jinja::refuse(const std::string& what, const std::string& got) {
  throw Error({.code = ExitCode::kInput, .where = "chat template", .what = what, .got = got});
}

struct JinjaTemplate::Impl {
  jinja::Block block;
};

JinjaTemplate::JinjaTemplate(std::string_view source) : impl_(std::make_unique<Impl>()) {
  if (source.size() > jinja::kLongestTemplate)
    jinja::refuse("too long", cat(source.size(), " bytes"));
  if (const auto at = find_invalid_utf8(source)) jinja::refuse(cat("not UTF-8 at byte ", *at));
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {  // line ends as Jinja makes them
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') continue;
      text += '\n';
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  impl_->block = jinja::parse(jinja::tokens_of(text));
}
JinjaTemplate::~JinjaTemplate() = default;
JinjaTemplate::JinjaTemplate(JinjaTemplate&&) noexcept = default;
JinjaTemplate& JinjaTemplate::operator=(JinjaTemplate&&) noexcept = default;

std::string JinjaTemplate::render(const nlohmann::ordered_json& variables) const {
  return jinja::run(impl_->block, variables);
}

}  // namespace kvlingua::text
