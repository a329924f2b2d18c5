// Files of stored results: what took hours is kept beside the file when it is of another run, and
// used again when it fits. One process at a time writes a file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kvlingua/io/file_lock.h"

namespace kvlingua {

struct StoredResults {
  std::filesystem::path file;
  std::string key, fingerprint;  // the first line is {key: fingerprint}
  std::string own, other;        // in messages: "this evaluation", "another evaluation"
  std::string doing;             // what another process does that writes there: "evaluates"

  // Whether `some` file, this or one moved aside, is of these results.
  bool belongs(const std::filesystem::path& some) const;
  // Throws Error: kInput where it is no regular file, kFailed when another process writes there.
  void must_be_free() const;
  // What is of others is moved aside; where nothing is left, what was moved aside before and
  // belongs comes back (returns true). Without `resume` what is there is thrown away.
  bool take_up(bool resume) const;
  // Throws Error (kFailed) when another process holds it.
  FileLock lock() const;
};

// Killed, or out of disk, before its first line: nothing that anybody would miss.
bool empty_or_gone(const std::filesystem::path& file);
// generations.other-1.jsonl, ... beside generations.jsonl, by name.
std::vector<std::filesystem::path> moved_aside(const std::filesystem::path& file);

}  // namespace kvlingua
