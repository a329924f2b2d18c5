// A sandboxed subset of Jinja (jinja.palletsprojects.com/templates), as far as chat templates go:
// what transformers' ImmutableSandboxedEnvironment with trim_blocks and lstrip_blocks renders, or
// an Error that names what is not understood. Nothing a template says can touch anything outside
// its output; work, depth and output are bounded.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace kvlingua::text {

class JinjaTemplate {
 public:
  // Throws Error (kInput) for syntax that is not understood.
  explicit JinjaTemplate(std::string_view source);
  ~JinjaTemplate();
  JinjaTemplate(JinjaTemplate&&) noexcept;
  JinjaTemplate& operator=(JinjaTemplate&&) noexcept;

  // `variables`: an object. Throws Error (kInput) for what the template raises, what is not
  // understood and what takes too long.
  std::string render(const nlohmann::ordered_json& variables) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlingua::text
