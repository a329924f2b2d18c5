#include "datasets/corpus/corpus.h"

#include <algorithm>
#include <map>

#include "datasets/corpus/corpus_file.h"
#include "datasets/corpus/families.h"
#include "datasets/corpus/fresh_families.h"
#include "datasets/corpus/mixed_corpus.h"
#include "datasets/corpus/synthetic_corpus.h"
#include "datasets/corpus/text_passages.h"
#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/random.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/io/json.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

using nlohmann::json;

[[noreturn]] void bad_record(const std::string& where, const std::string& what,
                             const std::string& got, const std::string& expected) {
  throw Error({.code = ExitCode::kInput,
               .where = where,
               .what = what,
               .got = got,
               .expected = expected,
               .remedy = "repair the record, or leave such ones out with --skip-bad"});
}

// The field of an object as text. Throws naming `where`.
std::string text_field(const json& object, const std::string& field, const std::string& where) {
  const auto it = object.find(field);
  if (it == object.end()) bad_record(where, cat("no field \"", field, "\""), "", "");
  if (!it->is_string())
    bad_record(where, cat("field \"", field, "\" is no text"), printable(it->dump(), 40),
               "a string");
  return it->get<std::string>();
}

std::string role_of(const std::string& name, const std::string& where) {
  if (name == "system" || name == "user" || name == "assistant") return name;
  if (name == "human") return "user";
  if (name == "gpt") return "assistant";
  bad_record(where, "unknown role", printable(name), "system, user (human) or assistant (gpt)");
}

// One record of a chat file, in either of the two layouts.
Document conversation(const json& object, const std::string& where) {
  // Merged data sets have both columns, one of them null.
  const auto has = [&](const char* key) { return object.contains(key) && !object[key].is_null(); };
  const bool share = has("conversations");
  if (!share && !has("messages"))
    bad_record(where, "no \"messages\" and no \"conversations\"", "", "");
  const json& turns = object[share ? "conversations" : "messages"];
  if (!turns.is_array() || turns.empty())
    bad_record(where, "the conversation is no list of turns", printable(turns.dump(), 40), "");
  Document document;
  for (const json& turn : turns) {
    if (!turn.is_object()) bad_record(where, "a turn is no object", printable(turn.dump(), 40), "");
    ChatMessage message{role_of(text_field(turn, share ? "from" : "role", where), where),
                        text_field(turn, share ? "value" : "content", where)};
    if (!message.content.empty()) {
      if (!document.text.empty()) document.text += "\n\n";
      document.text += message.content;
    }
    document.messages.push_back(std::move(message));
  }
  return document;
}

class FileCorpus : public Corpus {
 public:
  explicit FileCorpus(const DataOptions& options)
      : kind_(options.kind), field_(options.text_field) {
    const auto layout =
        kind_ == "plain" || kind_ == "jsonl" ? RecordLayout::kLines : RecordLayout::kLinesOrArray;
    Sha256 hash;
    for (const std::string& name : options.files) {
      files_.push_back(std::make_unique<RecordFile>(name, layout));
      first_.push_back(size_);
      size_ += files_.back()->size();
      hash.update(files_.back()->sha256());
    }
    sha256_ = hash.hex();
    if (size_ == 0) {
      throw Error({.code = ExitCode::kInput,
                   .where = options.files.empty() ? "data.files" : options.files.front(),
                   .what = "the corpus is empty",
                   .got = "no record in any file",
                   .remedy = "name files that hold documents under data.files"});
    }
  }

  int64_t size() const override { return size_; }

  Document read(int64_t i) const override {
    const size_t f =
        static_cast<size_t>(std::upper_bound(first_.begin(), first_.end(), i) - first_.begin()) - 1;
    const int64_t record = i - first_[f];
    const std::string bytes = files_[f]->read(record);
    const auto where = [&] { return files_[f]->place(record); };
    if (const auto at = find_invalid_utf8(bytes)) {
      bad_record(where(), "not UTF-8", cat("byte ", *at, " of the record"), "UTF-8 text");
    }
    Document document;
    if (kind_ == "plain") {
      document.text = bytes;
    } else {
      document = from_json(bytes, where);
    }
    if (document.group.empty()) document.group = document.text;
    return document;
  }

  std::string place(int64_t i) const override {
    const size_t f =
        static_cast<size_t>(std::upper_bound(first_.begin(), first_.end(), i) - first_.begin()) - 1;
    return files_[f]->place(i - first_[f]);
  }

  json describe() const override {
    json names = json::array();
    for (const auto& file : files_) names.push_back(file->path().filename().string());
    return {{"kind", kind_},
            {"files", names},
            {"text_field", field_},
            {"sha256", sha256_},
            {"documents", size_}};
  }

 private:
  template <class Where>
  Document from_json(const std::string& bytes, const Where& where) const {
    json object;
    try {
      object = parse_json(bytes, "");
    } catch (const Error& error) {
      // Of the record: its file's line and column are where().
      const ErrorParts& parts = error.parts();
      bad_record(where(), parts.what,
                 cat(parts.got, parts.got.empty() ? "" : ", ", "at ", parts.where.substr(1),
                     " of the record"),
                 parts.expected.empty() ? "one JSON object" : parts.expected);
    }
    if (!object.is_object())
      bad_record(where(), "the record is no JSON object", printable(bytes, 40), "{...}");
    Document document;
    if (kind_ == "jsonl") {
      document.text = text_field(object, field_, where());
    } else {
      document = conversation(object, where());
    }
    if (object.contains("group") && object["group"].is_string())
      document.group = object["group"].get<std::string>();
    return document;
  }

  std::string kind_, field_, sha256_;
  std::vector<std::unique_ptr<RecordFile>> files_;
  std::vector<int64_t> first_;  // number of each file's first record
  int64_t size_ = 0;
};

// Natural English contexts: statements of the families (families.h), drawn and put together by
// (seed, index).
class EnglishContexts {
 public:
  EnglishContexts(const SyntheticOptions& options, Split split) : options_(options) {
    for (const std::string& family : family_names()) {
      // Families differ in how many distinct items they have.
      for (int64_t n = 512; n > 0; n /= 2) {
        try {
          for (const FamilyItem& item : make_family({.family = family,
                                        .split = split,
                                        .n = n,
                                        .seed = static_cast<uint64_t>(options.seed),
                                        .style = FamilyStyle::kEnglish})) {
            // What chooses between states of training is not trained on.
            const auto validates = [](const std::string& marker) {
              return !all_words_of(ValuePart::kTraining, marker);
            };
            if (split == Split::kTrain &&
                std::any_of(item.markers.begin(), item.markers.end(), validates))
              continue;
            pools_[family].push_back(item.context);
          }
          break;
        } catch (const Error& error) {
          if (error.code() != ExitCode::kInput || n == 1) throw;
        }
      }
    }
  }
  std::string context(uint64_t index) const {
    Random random(mix(static_cast<uint64_t>(options_.seed), index));
    std::vector<std::string> parts;
    if (random.chance(options_.identity)) parts.push_back(random.pick(pools_.at("identity")));
    if (random.chance(options_.counterfactual))
      parts.push_back(random.pick(pools_.at("counterfact")));
    if (parts.empty() || random.chance(options_.distractors))
      parts.push_back(random.pick(pools_.at("needle")));
    random.shuffle(parts);
    std::string text;
    for (const std::string& part : parts) text += (text.empty() ? "" : " ") + part;
    return text;
  }

 private:
  SyntheticOptions options_;
  std::map<std::string, std::vector<std::string>> pools_;
};

// Contexts of the built-in language, or of natural English. Train and held-out contexts share no
// invented value.
class BuiltInCorpus : public Corpus {
 public:
  explicit BuiltInCorpus(const DataOptions& options)
      : options_(options.synthetic),
        split_(options.split),
        nano_(static_cast<uint64_t>(options_.seed), mix_of(options_)) {
    if (options_.style != "english") return;
    for (Split split : {Split::kTrain, Split::kHeldOut})
      english_.push_back(EnglishContexts(options_, split));
  }

  std::string place(int64_t i) const override { return cat("built-in document ", i); }
  int64_t size() const override { return options_.documents; }
  bool split_by_construction() const override { return true; }

  Document read(int64_t i) const override {
    const bool held_out = split_ == "heldout" || (split_ == "all" && i % 4 == 3);
    const auto index = static_cast<uint64_t>(i);
    Document document;
    if (options_.style == "open") {
      Random random(mix(mix(static_cast<uint64_t>(options_.seed), hash_name("open")), index));
      document.text =
          open_content(held_out ? ValuePart::kHeldOut : ValuePart::kTraining, random).context;
    } else {
      document.text = english_.empty()
                          ? nano_.context(index, held_out ? Split::kHeldOut : Split::kTrain)
                          : english_[held_out ? 1 : 0].context(index);
    }
    document.group = document.text;
    return document;
  }

  json describe() const override {
    const json shares = {{"identity", options_.identity},
                         {"counterfactual", options_.counterfactual},
                         {"distractors", options_.distractors}};
    // The text is a function of these and of the generator: hashing some of it notices a changed
    // generator.
    Sha256 hash;
    for (int64_t i = 0; i < std::min<int64_t>(size(), 64); ++i)
      hash.update(read(i).text).update("\n");
    return {{"kind", "synthetic"}, {"style", options_.style}, {"seed", options_.seed},
            {"split", split_},     {"shares", shares},        {"sha256", hash.hex()},
            {"documents", size()}};
  }

 private:
  static SyntheticMix mix_of(const SyntheticOptions& options) {
    SyntheticMix mix;
    mix.statements.identity = options.identity;
    mix.statements.facts = options.counterfactual;
    mix.statements.filler = options.distractors;
    return mix;
  }

  SyntheticOptions options_;
  std::string split_;
  SyntheticCorpus nano_;
  std::vector<EnglishContexts> english_;  // train, held out; empty for the nano language
};

}  // namespace

std::unique_ptr<Corpus> open_corpus(const DataOptions& options) {
  if (options.kind == "synthetic") return std::make_unique<BuiltInCorpus>(options);
  if (options.kind == "text") return open_passages(options);
  if (options.kind == "mix") return open_mixed_corpus(options);
  return std::make_unique<FileCorpus>(options);
}

std::optional<Document> read_document(const Corpus& corpus, int64_t i, bool skip_bad,
                                      int64_t& malformed) {
  try {
    return corpus.read(i);
  } catch (const Error& error) {
    if (!skip_bad || error.code() != ExitCode::kInput) throw;
    if (malformed++ < 5) log_warning(cat("skipped: ", error.what()));
    return std::nullopt;
  }
}

void skip_or_rethrow(const Corpus& corpus, int64_t i, bool skip_bad, const Error& error,
                     int64_t& malformed) {
  ErrorParts parts = error.parts();
  const std::string place = corpus.place(i);
  if (!parts.where.starts_with(place)) parts.where = cat(place, ": ", parts.where);
  const Error named(parts);
  if (!skip_bad || error.code() != ExitCode::kInput) throw named;
  if (malformed++ < 5) log_warning(cat("skipped: ", named.what()));
}

Shuffle::Shuffle(int64_t n, uint64_t seed)
    : n_(static_cast<uint64_t>(n)), seed_(seed), half_bits_(1) {
  while (half_bits_ < 31 && (uint64_t{1} << (2 * half_bits_)) < n_) ++half_bits_;
}

int64_t Shuffle::operator()(int64_t i) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  auto x = static_cast<uint64_t>(i);
  do {
    uint64_t left = x >> half_bits_, right = x & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t next = left ^ (mix(mix(seed_, round), right) & mask);
      left = right;
      right = next;
    }
    x = (left << half_bits_) | right;
  } while (x >= n_);
  return static_cast<int64_t>(x);
}

}  // namespace kvlingua
