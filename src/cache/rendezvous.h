// How the processes of a run find each other (process_group.h).
//
// Process 0 makes the secret and serves the store. Each says hello there, {nonce, beat, size}, with
// a beat that goes on: who has come and gone is noticed. When all have come process 0 answers
// with all their nonces, so that none takes an earlier start of the run for this one. `alarm` is
// what ends the meeting for everybody.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <filesystem>
#include <string>

#include "kvlingua/base/error.h"
#include "kvlingua/cache/process_group.h"
#include "kvlingua/io/file_lock.h"
#include "sealed_store.h"

namespace kvlingua {

struct Meeting {
  c10::intrusive_ptr<SealedStore> store;  // of this start alone, by its prefix
  std::string prefix;
  std::filesystem::path secret_file;
  FileLock lock;  // of process 0: nobody else begins in this folder meanwhile

  // Once all are connected: nothing of the meeting stays, neither the file nor the open port.
  void close(int64_t rank);
};

Meeting meet(const GroupPlace& place);

// Error (kFailed) of this process, with what to do.
Error group_error(const GroupPlace& place, const std::string& what, const std::string& got = {},
                  const std::string& expected = {});

}  // namespace kvlingua
