#include "eval/answers/answer_store.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/json_number.h"
#include "kvlingua/io/stored_results.h"

namespace kvlingua {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr auto kLook = std::chrono::milliseconds(500);

StoredResults stored(const StoreOptions& options, const fs::path& file) {
  return {.file = file,
          .key = "evaluation",
          .fingerprint = options.fingerprint,
          .own = "this evaluation",
          .other = "another evaluation",
          .doing = "evaluates"};
}

}  // namespace

void note_distance(std::map<std::string, double>& distances, const std::string& control,
                   double distance) {
  auto& smallest = distances.try_emplace(control, distance).first->second;
  smallest = std::min(smallest, distance);
}

AnswerStore::AnswerStore(const StoreOptions& options, Answers& answers,
                         std::map<std::string, double>& control_distance)
    : options_(options) {
  if (options_.file.empty()) {
    if (options_.ranks > 1)
      throw Error({.code = ExitCode::kUsage,
                   .where = "evaluation",
                   .what = "several processes need a folder to share"});
    return;
  }
  fs::create_directories(options_.file.parent_path());
  const fs::path own = file_of(options_.rank);
  const StoredResults results = stored(options_, own);
  results.must_be_free();
  if (options_.resume) {
    for (const fs::path& file : all_files()) {
      if (!belongs(file)) continue;
      read(file, answers, control_distance);
      scattered_ = scattered_ || file != options_.file;
    }
  }
  if (results.take_up(options_.resume)) read(own, answers, control_distance);
  const bool fresh = empty_or_gone(own);
  lock_ = results.lock();
  writer_.emplace(own);
  if (fresh) writer_->write(json{{"evaluation", options_.fingerprint}});
}

fs::path AnswerStore::file_of(int64_t rank) const {
  if (options_.ranks == 1) return options_.file;
  return options_.file.parent_path() /
         cat(options_.file.stem().string(), ".rank-", rank, "-of-", options_.ranks, ".jsonl");
}

std::vector<fs::path> AnswerStore::all_files() const {
  const std::string stem = options_.file.stem().string();
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(options_.file.parent_path())) {
    const std::string name = entry.path().filename().string();
    if (name == stem + ".jsonl" || (name.starts_with(stem + ".rank-") && name.ends_with(".jsonl")))
      files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

namespace {

// Lines that are JSON but none of this program's: named by file and line.
template <class Read>
void read_own_lines(const fs::path& file, const Read& read) {
  read_json_lines(file, [&](const json& line, size_t number) {
    try {
      read(line, number);
    } catch (const json::exception& error) {
      throw Error({.code = ExitCode::kCorrupt,
                   .where = cat(file.string(), ":", number),
                   .what = "not a line of an evaluation",
                   .got = printable(error.what(), 120),
                   .remedy = "take the line out, or move the file away"});
    }
  });
}

}  // namespace

bool AnswerStore::belongs(const fs::path& file) const {
  return stored(options_, file).belongs(file);
}

void AnswerStore::read(const fs::path& file, Answers& answers,
                       std::map<std::string, double>& control_distance) const {
  read_own_lines(file, [&](const json& line, size_t number) {
    if (number == 1 || (line.is_object() && line.contains("finished"))) return;
    if (line.is_object() && line.contains("control_distance")) {
      for (const auto& [name, distance] : line["control_distance"].items())
        note_distance(control_distance, name, distance.get<double>());
      return;
    }
    answers.add(Answer::from_json(line, cat(file.string(), ":", number)));
  });
}

void AnswerStore::add(const Answer& answer) {
  if (writer_) writer_->write(answer.to_json());
}

void AnswerStore::add_distances(const std::map<std::string, double>& distances) {
  if (writer_ && !distances.empty()) writer_->write(json{{"control_distance", distances}});
}

void AnswerStore::sync() {
  if (writer_) writer_->sync();
}

void AnswerStore::finish(const RankWork& work) {
  writer_->write(json{{"finished", options_.job},
                      {"generated", work.generated},
                      {"seconds", work.seconds_by_condition}});
  writer_->sync();
}

std::optional<RankWork> AnswerStore::finished(int64_t rank) const {
  const fs::path file = file_of(rank);
  if (!belongs(file)) return std::nullopt;
  std::optional<RankWork> work;
  read_own_lines(file, [&](const json& line, size_t) {
    work.reset();  // only the last line ends a file
    if (!line.is_object() || !line.contains("finished") || line["finished"] != options_.job) return;
    work.emplace();
    work->generated = whole_number(line.at("generated"));
    work->seconds_by_condition = line.at("seconds").get<std::map<std::string, double>>();
  });
  return work;
}

void AnswerStore::wait_for(int64_t rank, std::vector<RankWork>& works) const {
  using Clock = std::chrono::steady_clock;
  const fs::path file = file_of(rank);
  const auto ended = [&](const std::string& what) {
    return Error({.where = file.string(),
                  .what = cat("rank ", rank, " ", what),
                  .remedy = "look at its log; run again to go on with what is there"});
  };
  std::error_code ignored;
  auto silent_since = Clock::now();
  std::uintmax_t size = 0;
  bool looked = false, seen = false;
  while (true) {
    // Looked at first: what ends a file is written before its lock is let go.
    const bool there = FileLock::taken(file);
    const std::uintmax_t now = fs::exists(file, ignored) ? fs::file_size(file, ignored) : 0;
    if (!looked || now != size) {  // files are read again only when they grew
      if (auto work = finished(rank)) {
        works.push_back(std::move(*work));
        return;
      }
      if (!looked) log_info(cat("waiting for rank ", rank));
    }
    if (there || now != size) silent_since = Clock::now();
    if (seen && !there) throw ended("has ended before its work was done");
    seen = seen || there;
    looked = true;
    size = now;
    if (stop_requested())
      throw stopped_error(
          cat("answers are kept beside ", options_.file.string(), "; run again to go on"));
    if (std::chrono::duration<double>(Clock::now() - silent_since).count() >
        options_.patience_seconds)
      throw ended(cat("has not come in ", options_.patience_seconds, " seconds"));
    std::this_thread::sleep_for(kLook);
  }
}

std::vector<RankWork> AnswerStore::join(Answers& answers,
                                        std::map<std::string, double>& control_distance) {
  std::vector<RankWork> works;
  if (options_.ranks == 1 && !scattered_) return works;
  for (int64_t rank = 1; rank < options_.ranks; ++rank) {
    wait_for(rank, works);
    read(file_of(rank), answers, control_distance);
  }
  const fs::path whole = options_.file.string() + ".joining";
  std::error_code ignored;
  fs::remove(whole, ignored);
  {
    JsonLinesWriter writer(whole);
    writer.write(json{{"evaluation", options_.fingerprint}});
    for (const Answer* answer : answers.all()) writer.write(answer->to_json());
    if (!control_distance.empty()) writer.write(json{{"control_distance", control_distance}});
    writer.sync();
  }
  fs::rename(whole, options_.file);
  writer_.reset();
  // Their answers are in the whole file now; files of another evaluation stay.
  for (const fs::path& file : all_files())
    if (file != options_.file && belongs(file)) fs::remove(file, ignored);
  return works;
}

}  // namespace kvlingua
