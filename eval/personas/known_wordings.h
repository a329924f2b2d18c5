// What the published results files of this experiment hold, under their keys.
//
// Every wording of a persona is among the training texts of every fold here, so these figures say
// that caches of different texts differ, not that a persona is recognised: neutral topics do as
// well (signatures.h has the headline and the verdict). What was wrong with the published ones is
// not repeated: each cache counts once, and folds are of whole caches.
#pragma once

#include "eval/personas/signatures.h"

namespace kvlingua {

// To be put into classification: cv_results and best_classifier (stratified, shuffled five-fold;
// random forest, linear SVM, logistic regression), holdout_accuracy and classification_report
// (stratified 70/30, the best classifier), cross_prompt_validation (forest, one prompt group left
// out), feature_importance (forest, mean decrease of impurity). Null values where a persona has too
// few caches.
nlohmann::ordered_json known_wording_classification(const std::vector<Signature>& personas,
                                                    const IdentityDesign& design,
                                                    const IdentityOptions& options);

// cosine_similarity_matrix: of the personas' mean features.
nlohmann::ordered_json mean_feature_cosines(const std::vector<Signature>& personas,
                                            const IdentityDesign& design);

}  // namespace kvlingua
