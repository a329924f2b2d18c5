// Corpus: documents to make pairs from, read one at a time from text, JSONL, chat files or the
// built-in generator.
//
// Files are never held in memory: opening one scans it once (hash, and where each record begins: 16
// bytes a record), and records are read and parsed when asked for. What a kind's record is:
//   plain      a line of text; empty lines are passed over
//   text       a passage of a whole text (text_passages.h)
//   jsonl      a JSON object a line; the document is its text field
//   chat       objects with "messages": [{"role": "system|user|assistant", "content": ...}], a line
//              each or in one array
//   sharegpt   objects with "conversations": [{"from": "system|human|gpt", "value": ...}], as
//              OpenHermes-2.5 has them
//   synthetic  contexts of the built-in language (synthetic_corpus.h), or of an open vocabulary
//              (fresh_families.h)
//   mix        several of these by weight (mixed_corpus.h)
// Knows no model. Splits are by construction: a document's side depends on its group alone
// (split.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/corpus/split.h"
#include "kvlingua/base/error.h"
#include "kvlingua/config/data_options.h"
#include "kvlingua/text/chat_template.h"

namespace kvlingua {

struct Document {
  // What becomes the span; of a conversation: its contents, a blank line between them.
  std::string text;
  // Documents of one group stand on one side of every split; by default the text itself.
  std::string group;
  std::vector<ChatMessage> messages;  // chat and sharegpt
  bool settled = false;  // made of one split's values: not filtered, as split_by_construction()
};

class Corpus {
 public:
  virtual ~Corpus() = default;
  virtual int64_t size() const = 0;  // records, good or bad
  // Record i in the corpus' own order. Throws Error (kInput) naming file and line when it is
  // malformed. Thread-safe.
  virtual Document read(int64_t i) const = 0;
  // "file:line" of record i, for messages about what was made of it.
  virtual std::string place(int64_t i) const = 0;
  // Whether the corpus itself is of one split already, so that documents need not be filtered
  // (synthetic).
  virtual bool split_by_construction() const { return false; }
  // {kind, files, sha256, documents}: names the corpus in pair sets.
  virtual nlohmann::json describe() const = 0;
};

// Throws Error: kInput for a missing or empty corpus, a file of a kind that is not read (Parquet,
// compressed: says how to convert), or a JSON array that does not end.
std::unique_ptr<Corpus> open_corpus(const DataOptions& options);

// Record i; none, counted in `malformed` and the first few named in the log, when it is malformed
// and such are skipped (data.skip_bad).
std::optional<Document> read_document(const Corpus& corpus, int64_t i, bool skip_bad,
                                      int64_t& malformed);
// The same for what is made of a record afterwards: counts it and returns where such are skipped,
// rethrows naming its file and line where they are not.
void skip_or_rethrow(const Corpus& corpus, int64_t i, bool skip_bad, const Error& error,
                     int64_t& malformed);

// Permutation of [0, n) that needs no memory: a Feistel network with cycle walking, so that
// shuffling costs nothing whatever the size of a corpus.
class Shuffle {
 public:
  Shuffle(int64_t n, uint64_t seed);
  int64_t operator()(int64_t i) const;

 private:
  uint64_t n_, seed_;
  int half_bits_;
};

}  // namespace kvlingua
