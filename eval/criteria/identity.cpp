#include "eval/criteria/identity.h"

#include "kvlingua/base/error.h"

namespace kvlingua {

namespace {

bool exact(const Answer& answer) { return answer.score.exact; }

CriterionResult judge_exact(const CriterionInput& input, const std::string& family,
                            const std::string& group) {
  return judge_share(
      input,
      {.name = family,
       .families = {family},
       .succeeded = &exact,
       .counts = {},
       .definition = cat(
           "Share of the gap between baseline and full_text that the judged condition recovers, on "
           "the same ",
           family,
           " items: rates of exact answers (every marker of the context that only the source read "
           "occurs in the answer, as whole words). Question and completion forms together; items "
           "about one ",
           group, " are one unit. Pass when the whole interval is at or above the threshold."),
       .nothing =
           cat("no ", family, " items were answered under both ", input.gated, " and full_text")});
}

}  // namespace

CriterionResult judge_identity(const CriterionInput& input) {
  return judge_exact(input, "identity", "person");
}
CriterionResult judge_needle(const CriterionInput& input) {
  return judge_exact(input, "needle", "object");
}

}  // namespace kvlingua
