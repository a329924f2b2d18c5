#include "sealed_store.h"

#include <chrono>
#include <thread>
#include <utility>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

constexpr auto kLookEvery = std::chrono::milliseconds(20);
constexpr int kRestoreEvery = 5;  // looks

SealedStore::Bytes bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

}  // namespace

SealedStore::SealedStore(c10::intrusive_ptr<c10d::Store> store, RunSecret secret, Waiting waiting)
    : store_(std::move(store)), secret_(std::move(secret)), waiting_(std::move(waiting)) {}

std::optional<std::string> SealedStore::look(const std::string& key) {
  const std::lock_guard lock(mutex_);
  return look_locked(key);
}

std::optional<std::string> SealedStore::look_locked(const std::string& key) {
  if (!store_) {
    const auto found = seen_.find(key);
    return found == seen_.end() ? std::nullopt : std::optional(found->second);
  }
  const std::string name = secret_.name(key);
  if (!store_->check({name})) return std::nullopt;
  const Bytes sealed = store_->get(name);
  auto value = secret_.open(key, std::string(sealed.begin(), sealed.end()));
  if (value) seen_[key] = *value;
  return value;
}

void SealedStore::put(const std::string& key, const std::string& value) {
  const std::lock_guard lock(mutex_);
  mine_[key] = seen_[key] = value;
  if (store_) store_->set(secret_.name(key), bytes_of(secret_.seal(key, value)));
}

void SealedStore::restore() {
  const std::lock_guard lock(mutex_);
  const auto mine = mine_;
  for (const auto& [key, value] : mine) {
    if (look_locked(key) != value) put(key, value);
  }
}

void SealedStore::detach() {
  const std::lock_guard lock(mutex_);
  store_.reset();
}

c10::intrusive_ptr<c10d::Store> SealedStore::clone() {
  return c10::intrusive_ptr<c10d::Store>::unsafe_reclaim_from_nonowning(this);
}

void SealedStore::set(const std::string& key, const Bytes& value) {
  put(key, std::string(value.begin(), value.end()));
}

SealedStore::Bytes SealedStore::get(const std::string& key) {
  wait({key});
  return bytes_of(look(key).value_or(""));
}

bool SealedStore::check(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    if (!look(key)) return false;
  }
  return true;
}

void SealedStore::wait(const std::vector<std::string>& keys) { wait(keys, timeout_); }

void SealedStore::wait(const std::vector<std::string>& keys,
                       const std::chrono::milliseconds& timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  for (int looks = 1; !check(keys); ++looks) {
    if (std::chrono::steady_clock::now() >= end)
      throw Error(
          {.where = "store of the processes", .what = "a value does not come", .got = keys[0]});
    if (looks % kRestoreEvery == 0) {
      restore();
      waiting_(*this);
    }
    std::this_thread::sleep_for(kLookEvery);
  }
}

// Only this process' own counts are asked for by the groups that we use.
int64_t SealedStore::add(const std::string& key, int64_t value) {
  const std::lock_guard lock(mutex_);
  return counts_[key] += value;
}

bool SealedStore::deleteKey(const std::string& key) {
  const std::lock_guard lock(mutex_);
  seen_.erase(key);
  return mine_.erase(key) > 0;
}

int64_t SealedStore::getNumKeys() {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(seen_.size());
}

}  // namespace kvlingua
