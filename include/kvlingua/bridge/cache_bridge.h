// CacheBridge: two models and a projector put to use. The source reads a context, its cache is
// translated, and the target answers questions about a text it never saw.
//
//   source:  its chat prefix | context             -> source KvCache of the context
//   target:  its chat prefix | translated context | "\n" question, end of turn  -> answer
//
// The pieces are tokenised apart, as in pair generation and evaluation (text/chat_template.h), so
// an answer here is the one that `evaluate` scores. Greedy:
// the same context and question give the same answer.
//
//   const OpenModel source = open_model({.name = "Qwen/Qwen3-0.6B"});
//   const OpenModel target = open_model({.name = "Qwen/Qwen2.5-0.5B-Instruct"});
//   const CacheBridge bridge(source, target, projector);
//   const CacheBridge::Context context = bridge.read("Kenji lives in Oslo.");
//   std::cout << bridge.ask(context, "Where does Kenji live?").text;
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kvlingua/bridge/open_model.h"
#include "kvlingua/bridge/reader.h"
#include "kvlingua/projector/projector.h"
#include "kvlingua/text/alignment.h"

namespace kvlingua {

struct AskOptions {
  int64_t max_new_tokens = 256;
  // Told each piece of the answer as it is complete (whole characters); false ends the answer.
  std::function<bool(std::string_view piece)> on_text;
};

struct Reply {
  std::string text;
  std::vector<int64_t> ids;        // without the token that ended the turn
  bool stopped = false;            // the target ended its turn (false: max_new_tokens, or on_text)
  int64_t read_tokens = 0;         // that the target itself read before it answered
  int64_t context_bytes = 0;       // that were handed to the target in the context's place
  double first_token_seconds = 0;  // from the question to the first token
  double seconds = 0;              // to the last
};

class CacheBridge {
 public:
  // All three must outlive the bridge. Throws Error (kInput) when the projector is not of these
  // shapes, as the readers do.
  CacheBridge(const OpenModel& source, const OpenModel& target, const Projector& projector,
              AlignmentKind alignment = AlignmentKind::kLastChar);

  // A context as the source read it, translated: to be asked any number of times.
  struct Context {
    std::string text;
    int64_t source_tokens = 0;
    int64_t target_tokens = 0;
    KvCache past;             // the target's prefix and the translated span, one row
    int64_t bytes = 0;        // of the translated span
    double read_seconds = 0;  // the source's prefill
    double translate_seconds = 0;
  };
  // Throws Error: kUsage for an empty text, kInput when it is longer than a model allows. Kinds
  // that fuse (C2C's own mode) have the target read the text as well.
  Context read(std::string_view text) const;
  // Throws Error: kUsage for an empty question, kInput when there is no room for it.
  Reply ask(const Context& context, std::string_view question,
            const AskOptions& options = {}) const;
  // The same question with the context read by the target as text (the ceiling), or, with an empty
  // context, without it (the floor).
  Reply ask_text(std::string_view context, std::string_view question,
                 const AskOptions& options = {}) const;

  const Reader& source() const { return source_; }
  const Reader& target() const { return target_; }

 private:
  Reply answer(const KvCache& past, const std::vector<int64_t>& tokens, int64_t position,
               const AskOptions& options) const;
  std::vector<int64_t> rest(std::string_view question, bool after_context) const;

  Reader source_, target_;
  const Projector* projector_;
  AlignmentKind alignment_;
};

}  // namespace kvlingua
