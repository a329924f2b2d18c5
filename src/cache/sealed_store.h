// SealedStore: c10d's key-value store for the processes of one run, over a TCPStore that anybody
// can reach. Keys go under names that only the run can make, values sealed with the run's secret
// (run_secret.h): what others write there is not read, and what they remove is put back for as long
// as somebody here waits. So c10d's groups may find each other through it.
//
// Waiting ends with an Error when `Waiting` says so: at the deadline, at a signal, or when a
// process has gone. Once detach()ed it keeps what it has seen and needs no connection any more.
#pragma once

#include <torch/version.h>

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

#include "kvlingua/io/run_secret.h"

namespace kvlingua {

class SealedStore : public c10d::Store {
 public:
  using Bytes = std::vector<uint8_t>;
  // Called about ten times a second while something is waited for; throws to end the wait.
  using Waiting = std::function<void(SealedStore&)>;

  SealedStore(c10::intrusive_ptr<c10d::Store> store, RunSecret secret, Waiting waiting);

  const RunSecret& secret() const { return secret_; }
  // The value now, without waiting. Throws what the TCPStore throws when its server has gone.
  std::optional<std::string> look(const std::string& key);
  void put(const std::string& key, const std::string& value);
  // Puts back which of this process' values others have removed or written over.
  void restore();
  void detach();

#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 9
  c10::intrusive_ptr<c10d::Store> clone() override;
#else  // there is none to override
  c10::intrusive_ptr<c10d::Store> clone();
#endif
  using c10d::Store::set;
  void set(const std::string& key, const Bytes& value) override;
  Bytes get(const std::string& key) override;
  int64_t add(const std::string& key, int64_t value) override;
  bool deleteKey(const std::string& key) override;
  bool check(const std::vector<std::string>& keys) override;
  int64_t getNumKeys() override;
  void wait(const std::vector<std::string>& keys) override;
  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& timeout) override;

 private:
  std::optional<std::string> look_locked(const std::string& key);

  std::recursive_mutex mutex_;  // NCCL's threads look too
  c10::intrusive_ptr<c10d::Store> store_;
  RunSecret secret_;
  Waiting waiting_;
  std::map<std::string, std::string> mine_, seen_;
  std::map<std::string, int64_t> counts_;
};

}  // namespace kvlingua
