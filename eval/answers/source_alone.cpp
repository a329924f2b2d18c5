#include "eval/answers/source_alone.h"

namespace kvlingua {

std::string source_alone_definition() {
  return "The source model reads context and question and answers itself: how much there is to "
         "carry.";
}

namespace {

Given reads(const Probe& probe, const Reader& source) {
  Given given;
  given.tokens = source.before;
  const auto append = [&](const std::string& text) {
    const auto tokens = source.encode(text);
    given.tokens.insert(given.tokens.end(), tokens.begin(), tokens.end());
  };
  append(probe.context);
  append(probe.completion ? source.frame.after + probe.prompt
                          : "\n" + probe.prompt + source.frame.after);
  return given;
}

}  // namespace

void answer_by_source(const std::vector<std::vector<Item>>& blocks, const Reader& source,
                      const BesideOptions& options, Answers& answers) {
  answer_beside(
      blocks,
      {.condition = "source_alone",
       .open = [&] { return &source; },
       .reads = [](const Item& item, const Reader& by) { return reads(*item.probe, by); }},
      options, answers);
}

}  // namespace kvlingua
