// The verbs of the program, in the order that --help shows them. To add one: a header like ask.h
// with its name, options and help, its action beside it, and a row here.
//
// The program links none of the actions that need torch; the library that it loads for them links
// those alone.
#pragma once

#include "ask.h"
#include "evaluate.h"
#include "generate.h"
#include "identity_verb.h"
#include "inspect.h"
#include "interchange.h"
#include "nano_lm.h"
#include "preflight.h"
#include "quickstart.h"
#include "recipe_verbs.h"
#include "sweep_verb.h"
#include "train.h"
#include "verify.h"

namespace kvlingua::verbs {

template <class Options, bool kTorch>
Verb verb_of() {
  Verb verb{.text = Options::kText, .declare = {}, .run = {}};
  verb.declare = [](OptionList& list) {
    auto options = std::make_shared<Options>();
    options->declare(list);
    return std::static_pointer_cast<void>(options);
  };
  if constexpr (kTorch != requires { Options::kWithoutTorch; })
    verb.run = [](const CommandLine& command, const void* options) {
      return static_cast<const Options*>(options)->run(command);
    };
  return verb;
}

template <bool kTorch, class... Options>
std::vector<Verb> verbs_of() {
  return {verb_of<Options, kTorch>()...};
}

// kTorch: with the actions that need torch; else with those that do not.
template <bool kTorch>
const std::vector<Verb>& all_verbs() {
  static const std::vector<Verb> list =
      verbs_of<kTorch, PreflightVerb, InspectVerb, GenerateVerb, VerifyVerb, TrainVerb,
               EvaluateVerb, SweepVerb, IdentityVerb, AskVerb, ImportVerb, ExportVerb,
               QuickstartVerb, NanoLmVerb, RecipeLsVerb, RecipeShowVerb, RecipeCheckVerb,
               RecipeKeysVerb>();
  return list;
}

}  // namespace kvlingua::verbs
