// Plain natural text as a corpus (data.kind text): books, manuals, word lists, whole web pages in
// one file; compressed by gzip or not.
//
// Each file is one text, cut into passages of at most data.passage bytes where a paragraph ends,
// else a sentence, else a word. White space inside a passage stays as it is. Neighbouring passages
// speak of the same things, so every sixty-four of them stand on one side of a split together.
// The texts are held in memory; 4 GiB together are the limit (JSONL files are read from disk).
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "datasets/corpus/corpus.h"

namespace kvlingua {

// Throws Error (kInput): a file that is missing, damaged, not UTF-8 or too large, or no text at
// all.
std::unique_ptr<Corpus> open_passages(const DataOptions& options);

// [begin, end) of each passage; none is empty, none is longer than `limit` bytes, and none cuts a
// character.
std::vector<std::pair<size_t, size_t>> cut_passages(std::string_view text, size_t limit);

}  // namespace kvlingua
