// AnswerStore: generations.jsonl, every answer kept as soon as it is made.
//
// Its first line names the run it belongs to; another pair, checkpoint or setting starts the file
// anew. A run that was stopped finds its answers again, whatever the number of processes was: with
// several, each appends to generations.rank-R-of-N.jsonl and ends it with what it did; the first
// one waits for the others, joins all files into generations.jsonl and removes them. Each holds a
// lock on its file, so a process that died is told from one that is slow.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "eval/answers/answer.h"
#include "kvlingua/io/file_lock.h"
#include "kvlingua/io/json_lines.h"

namespace kvlingua {

struct StoreOptions {
  std::filesystem::path file;  // generations.jsonl; empty: nothing is kept
  std::string fingerprint;     // of everything that determines an answer
  bool resume = true;
  int64_t rank = 0, ranks = 1;
  std::string job;  // the same for all ranks of one start, another for the next: which ends count
  // How long the first rank waits for one whose file nobody holds: it may still be loading models.
  double patience_seconds = 600;
};

// What one process did, as its file's last line says.
struct RankWork {
  int64_t generated = 0;
  std::map<std::string, double> seconds_by_condition;
};

class AnswerStore {
 public:
  // Reads what is there into `answers`. Throws Error: kUsage when ranks share no file, kCorrupt for
  // a damaged one.
  AnswerStore(const StoreOptions& options, Answers& answers,
              std::map<std::string, double>& control_distance);

  void add(const Answer& answer);
  // A resumed run must know of a broken control too.
  void add_distances(const std::map<std::string, double>& distances);
  void sync();
  // Of a rank but the first: nothing more will come.
  void finish(const RankWork& work);
  // Of the first rank, at its end: waits until all others have finished, takes over their answers
  // and writes the one file. Throws Error: kFailed when one has ended before its work was done or
  // has not come at all, kTerminated and kInterrupted when asked to stop.
  std::vector<RankWork> join(Answers& answers, std::map<std::string, double>& control_distance);

 private:
  std::filesystem::path file_of(int64_t rank) const;
  std::vector<std::filesystem::path> all_files() const;
  bool belongs(const std::filesystem::path& file) const;
  void read(const std::filesystem::path& file, Answers& answers,
            std::map<std::string, double>& control_distance) const;
  std::optional<RankWork> finished(int64_t rank) const;
  void wait_for(int64_t rank, std::vector<RankWork>& works) const;

  StoreOptions options_;
  bool scattered_ = false;  // answers were found in ranks' files
  FileLock lock_;           // of this process' own file
  std::optional<JsonLinesWriter> writer_;
};

// The smallest distance seen of a control from what it imitates.
void note_distance(std::map<std::string, double>& distances, const std::string& control,
                   double distance);

}  // namespace kvlingua
