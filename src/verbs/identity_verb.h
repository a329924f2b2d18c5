// identity: persona fingerprints, self-recognition, identity transfer.
#pragma once

#include "geometry_options.h"

namespace kvlingua::verbs {

struct IdentityVerb {
  static constexpr VerbText kText{
      .name = "identity",
      .help = "persona fingerprints, self-recognition, identity transfer; resumes",
      .sections = "identity"};

  GeometryOptions geometry;
  std::string personas, format;
  bool skip_permutation = false;

  void declare(OptionList& list) {
    geometry.declare(list);
    list.text("--personas", personas, "FILE", "personas, topics and prompts (YAML or JSON)");
    list.text("--format", format, "FORM", "how system text and prompt are joined",
              {"chat", "plain", "chatml", "llama3"});
    list.flag("--skip-permutation", skip_permutation,
              "no permutation test: faster, and no verdict");
    geometry.options.declare_limit(list, "first N prompts of each group");
  }
  int run(const CommandLine& command) const;
};

}  // namespace kvlingua::verbs
