// Several corpora as one, by weight (data.mix).
//
// The mixture is as long as the shares allow: none of the corpora is read twice, and the one that
// is shortest for its weight is read whole. Which document of which corpus a number stands for is a
// function of the options alone, so that a set can be resumed and its parts told apart.
#pragma once

#include <memory>

#include "datasets/corpus/corpus.h"

namespace kvlingua {

// Throws Error as open_corpus() does of each.
std::unique_ptr<Corpus> open_mixed_corpus(const DataOptions& options);

}  // namespace kvlingua
