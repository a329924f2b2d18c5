#include "bpe.h"

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <shared_mutex>

#include "kvlingua/base/random.h"
#include "kvlingua/base/utf8.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua::text {
namespace {

constexpr size_t kMaxVocab = 1U << 24;

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

// Words already merged. Sharded, so that threads seldom wait; a full shard takes no more words.
class BpeModel::Cache {
 public:
  bool find(std::string_view word, std::vector<Symbol>& out) const {
    const Shard& shard = shard_of(word);
    const std::shared_lock lock(shard.mutex);
    const auto it = shard.words.find(word);
    if (it == shard.words.end()) return false;
    out.insert(out.end(), it->second.begin(), it->second.end());
    return true;
  }

  void insert(std::string_view word, const Symbol* begin, const Symbol* end) {
    if (word.size() > kMaxWordBytes) return;
    Shard& shard = shard_of(word);
    const std::unique_lock lock(shard.mutex);
    if (shard.words.size() < kWordsPerShard)
      shard.words.emplace(word, std::vector<Symbol>(begin, end));
  }

 private:
  static constexpr size_t kShards = 16, kWordsPerShard = 4096, kMaxWordBytes = 256;
  struct Shard {
    mutable std::shared_mutex mutex;
    std::unordered_map<std::string, std::vector<Symbol>, StringHash, std::equal_to<>> words;
  };
  const Shard& shard_of(std::string_view word) const {
    return shards_[mix(StringHash()(word)) % kShards];
  }
  Shard& shard_of(std::string_view word) { return shards_[mix(StringHash()(word)) % kShards]; }
  std::array<Shard, kShards> shards_;
};

size_t BpeModel::PairHash::operator()(uint64_t pair) const { return mix(pair); }

BpeModel::~BpeModel() = default;

BpeModel::BpeModel(const JsonView& json) : cache_(std::make_unique<Cache>()) {
  json.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
             "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (const auto type = json.find("type"); type && type->string() != "BPE") {
    type->unsupported(cat("model ", printable(type->string(), 40)), "BPE");
  }
  if (const auto dropout = json.find("dropout")) {
    if (!dropout->value().is_number() || dropout->value().get<double>() != 0.0)
      dropout->unsupported("dropout", "null");
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const auto text = json.find(affix); text && !text->string().empty())
      text->unsupported(affix, "null or empty");
  }
  fuse_unk_ = json.boolean("fuse_unk", false);
  byte_fallback_ = json.boolean("byte_fallback", false);
  ignore_merges_ = json.boolean("ignore_merges", false);
  read_vocab(json.at("vocab"));
  read_merges(json.at("merges"));
  index_characters();
  if (const auto unk = json.find("unk_token")) {
    const auto it = vocab_.find(unk->string());
    if (it == vocab_.end()) unk->corrupt("not in the vocabulary", printable(unk->string(), 40));
    unk_id_ = it->second;
  }
}

void BpeModel::read_vocab(const JsonView& json) {
  if (!json.value().is_object()) json.corrupt("wrong type", json.value().type_name(), "an object");
  const size_t size = json.value().size();
  if (size > kMaxVocab) json.corrupt("too large", cat(size, " entries"));
  vocab_.reserve(size);
  tokens_.resize(size);
  std::vector<bool> seen(size);
  for (const auto& [token, id] : json.value().items()) {
    const JsonView entry(id, cat(json.where(), "[\"", printable(token, 40), "\"]"));
    const int64_t value = entry.integer();
    if (value < 0) entry.corrupt("negative id", cat(value));
    if (value >= static_cast<int64_t>(size)) {
      entry.corrupt("ids have a hole", cat("id ", value),
                    cat("ids 0 to ", size - 1, " for ", size, " tokens"));
    }
    const auto index = static_cast<size_t>(value);
    if (seen[index])
      entry.corrupt("id given twice", cat(value, ", also of ", printable(tokens_[index], 40)));
    seen[index] = true;
    tokens_[index] = token;
    vocab_.emplace(token, static_cast<int32_t>(value));
  }
}

void BpeModel::read_merges(const JsonView& json) {
  const size_t count = json.array_size();
  merges_.reserve(count);
  const auto lookup = [&](std::string_view token, size_t i) {
    const auto it = vocab_.find(token);
    if (it == vocab_.end())
      json.element(i).corrupt("token not in the vocabulary", printable(token, 40));
    return it->second;
  };
  std::string joined;
  for (size_t i = 0; i < count; ++i) {
    const nlohmann::json& entry = json.value()[i];
    std::string_view left, right;
    if (entry.is_string()) {
      const std::string& both = *entry.get_ptr<const std::string*>();
      const size_t space = both.find(' ');
      if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) {
        json.element(i).corrupt("not a merge", printable(both, 40),
                                "two tokens and one space between them");
      }
      left = std::string_view(both).substr(0, space);
      right = std::string_view(both).substr(space + 1);
    } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() &&
               entry[1].is_string()) {
      left = *entry[0].get_ptr<const std::string*>();
      right = *entry[1].get_ptr<const std::string*>();
    } else {
      json.element(i).corrupt("not a merge", entry.type_name(), "\"a b\" or [\"a\", \"b\"]");
    }
    joined.assign(left).append(right);
    // One after the other: which missing token is named must not depend on the compiler.
    const int32_t first = lookup(left, i), second = lookup(right, i), merged = lookup(joined, i);
    merges_[pair_key(first, second)] = {static_cast<uint32_t>(i), merged};
  }
}

void BpeModel::index_characters() {
  bytes_.fill(-1);
  for (size_t id = 0; id < tokens_.size(); ++id) {
    const std::string& token = tokens_[id];
    if (token.empty() || utf8_length(token[0]) != token.size()) continue;
    size_t at = 0;
    characters_.emplace(next_code_point(token, at), static_cast<int32_t>(id));
  }
  for (unsigned b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    if (const auto it = vocab_.find(std::string_view(name)); it != vocab_.end())
      bytes_[b] = it->second;
  }
}

const BpeModel::Merge* BpeModel::find_merge(int32_t left, int32_t right) const {
  const auto it = merges_.find(pair_key(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

void BpeModel::tokenize(std::string_view word, std::vector<Symbol>& out) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    if (const auto it = vocab_.find(word); it != vocab_.end()) {
      out.push_back({it->second, static_cast<uint32_t>(word.size())});
      return;
    }
  }
  if (cache_->find(word, out)) return;
  std::vector<Symbol> symbols;
  start_word(word, symbols);
  merge_word(symbols);
  cache_->insert(word, symbols.data(), symbols.data() + symbols.size());
  out.insert(out.end(), symbols.begin(), symbols.end());
}

// One symbol a character; unknown characters become their bytes, the unknown token, or nothing.
void BpeModel::start_word(std::string_view word, std::vector<Symbol>& out) const {
  out.reserve(word.size());
  uint32_t unknown = 0;  // bytes waiting for the unknown token
  const auto flush = [&] {
    if (unknown > 0) out.push_back({*unk_id_, unknown});
    unknown = 0;
  };
  for (size_t at = 0; at < word.size();) {
    const size_t begin = at;
    const auto it = characters_.find(next_code_point(word, at));
    const auto length = static_cast<uint32_t>(at - begin);
    if (it != characters_.end()) {
      flush();
      out.push_back({it->second, length});
      continue;
    }
    const std::string_view bytes = word.substr(begin, length);
    const auto id_of = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)]; };
    if (byte_fallback_ &&
        std::all_of(bytes.begin(), bytes.end(), [&](char b) { return id_of(b) >= 0; })) {
      for (char byte : bytes) out.push_back({id_of(byte), 1});
      continue;  // without a flush, as `tokenizers` has it
    }
    if (!unk_id_) continue;
    if (!fuse_unk_) flush();
    unknown += length;
  }
  flush();
}

void BpeModel::merge_word(std::vector<Symbol>& symbols) const {
  if (symbols.size() < 2) return;
  struct Link {
    int32_t prev, next;
  };
  struct Candidate {
    uint32_t rank;
    uint32_t at;
    int32_t id;
    bool operator<(
        const Candidate& other) const {  // the heap's top is the lowest rank, then the leftmost
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  thread_local std::vector<Link> links;
  thread_local std::vector<Candidate> heap;
  const auto count = static_cast<int32_t>(symbols.size());
  links.resize(symbols.size());
  heap.clear();
  for (int32_t i = 0; i < count; ++i)
    links[static_cast<size_t>(i)] = {i - 1, i + 1 < count ? i + 1 : -1};
  const auto symbol = [&](int32_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
  const auto link = [&](int32_t i) -> Link& { return links[static_cast<size_t>(i)]; };
  for (int32_t i = 0; i + 1 < count; ++i) {
    if (const Merge* merge = find_merge(symbol(i).id, symbol(i + 1).id)) {
      heap.push_back({merge->rank, static_cast<uint32_t>(i), merge->id});
    }
  }
  std::make_heap(heap.begin(), heap.end());
  const auto offer = [&](int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    if (const Merge* merge = find_merge(symbol(left).id, symbol(right).id)) {
      heap.push_back({merge->rank, static_cast<uint32_t>(left), merge->id});
      std::push_heap(heap.begin(), heap.end());
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Candidate top = heap.back();
    heap.pop_back();
    const auto at = static_cast<int32_t>(top.at);
    if (symbol(at).bytes == 0 || link(at).next < 0) continue;
    const int32_t right = link(at).next;
    const Merge* merge = find_merge(symbol(at).id, symbol(right).id);
    if (merge == nullptr || merge->id != top.id) continue;  // the pair is no longer there
    symbol(at) = {top.id, symbol(at).bytes + symbol(right).bytes};
    symbol(right).bytes = 0;
    link(at).next = link(right).next;
    if (link(at).next >= 0) link(link(at).next).prev = at;
    offer(link(at).prev, at);
    offer(at, link(at).next);
  }
  std::erase_if(symbols, [](const Symbol& s) { return s.bytes == 0; });
}

std::string BpeModel::digest() const {
  Sha256 hash;
  const auto add = [&](std::string_view text) { hash.update(cat(text.size(), ":")).update(text); };
  for (const std::string& token : tokens_) add(token);
  std::vector<std::pair<uint32_t, uint64_t>> ordered;
  ordered.reserve(merges_.size());
  for (const auto& [pair, merge] : merges_) ordered.emplace_back(merge.rank, pair);
  std::sort(ordered.begin(), ordered.end());
  // Only the order counts, not the rank itself.
  for (const auto& [rank, pair] : ordered) hash.update(&pair, sizeof pair);
  add(cat("unk ", unk_id_.value_or(-1), " fuse ", fuse_unk_, " bytes ", byte_fallback_, " ignore ",
          ignore_merges_));
  return hash.hex();
}

}  // namespace kvlingua::text
