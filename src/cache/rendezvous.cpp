#include "rendezvous.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "kvlingua/base/error.h"
#include "kvlingua/base/log.h"
#include "kvlingua/base/stop_signal.h"
#include "kvlingua/io/atomic_file.h"
#include "kvlingua/io/sha256.h"
#include "kvlingua/io/sockets.h"

namespace kvlingua {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr auto kRound = std::chrono::milliseconds(50);
constexpr auto kStoreTimeout = std::chrono::seconds(10);
constexpr double kGoneAfter = 10;  // seconds without a beat
constexpr double kFirstWord = 5, kNextWord = 60;
constexpr int kTwinSightings = 3;

double seconds_since(Clock::time_point then) {
  return std::chrono::duration<double>(Clock::now() - then).count();
}

std::string hello_key(int64_t rank) { return cat("hello/", rank); }

// One process as another sees it.
struct Seen {
  std::string nonce;
  int64_t beat = -1;
  Clock::time_point last;
  bool here() const { return !nonce.empty(); }
  bool gone() const { return here() && seconds_since(last) > kGoneAfter; }
  void look(const Json& hello) {
    const std::string its = hello.value("nonce", "");
    const int64_t now = hello.value("beat", int64_t{0});
    if (its != nonce || now != beat) last = Clock::now();
    nonce = its;
    beat = now;
  }
};

std::optional<Json> look(SealedStore& store, const std::string& key) {
  const auto text = store.look(key);
  return text ? std::optional(Json::parse(*text)) : std::nullopt;
}

void check_alarm(const GroupPlace& place, SealedStore& store) {
  if (const auto raised = look(store, "alarm"))
    throw group_error(place, raised->value("what", ""), raised->value("got", ""));
}

void check_stop() {
  if (stop_requested())
    throw stopped_error("it was waiting for the other processes; nothing is lost");
}

class Host {
 public:
  explicit Host(const GroupPlace& place)
      : place_(place), world_(place.world), file_(fs::absolute(place.folder) / ".ranks.pem") {}
  Meeting meet();

 private:
  Meeting receive();
  Meeting visit();
  bool connect(const RunSecret& secret);
  c10::intrusive_ptr<c10d::Store> serve() const;
  void adopt(c10::intrusive_ptr<c10d::Store> store, const RunSecret& secret);
  void say_hello();
  void look_round(std::vector<Seen>& others);
  void check_twin(const Json& mine);
  std::optional<Json> look(const std::string& key) { return kvlingua::look(*store_, key); }
  void check_alarm() { kvlingua::check_alarm(place_, *store_); }
  [[noreturn]] void alarm(const std::string& what, const std::string& got,
                          const std::string& expected = {});
  std::string address() const { return cat(world_.master_addr, ":", world_.master_port); }
  Meeting met(const Json& welcome, FileLock lock) {
    return {store_, sha256_hex(welcome.dump()), file_, std::move(lock)};
  }
  void remark(const std::vector<Seen>& others);

  const GroupPlace& place_;
  const World& world_;
  fs::path file_;
  const std::string nonce_ = random_hex(16);
  int64_t beat_ = 0;
  int twins_ = 0;
  double next_word_ = kFirstWord;
  const Clock::time_point begin_ = Clock::now();
  c10::intrusive_ptr<SealedStore> store_;
};

// For the others too, as far as they can be told.
void Host::alarm(const std::string& what, const std::string& got, const std::string& expected) {
  try {
    if (store_) store_->put("alarm", Json({{"what", what}, {"got", got}}).dump());
    std::this_thread::sleep_for(10 * kRound);  // the store may go with this process
  } catch (const std::exception&) {            // they find out themselves
  }
  throw group_error(place_, what, got, expected);
}

void Host::say_hello() {
  store_->put(hello_key(world_.rank),
              Json({{"nonce", nonce_}, {"beat", ++beat_}, {"size", world_.size}}).dump());
}

// Listens at MASTER_ADDR only.
c10::intrusive_ptr<c10d::Store> Host::serve() const {
  bool everywhere = false;
  Socket listening = listen_at(world_.master_addr, world_.master_port, &everywhere);
  if (everywhere)
    log_warning(cat("MASTER_ADDR ", world_.master_addr,
                    " is no address of this machine: process 0 listens at all of its addresses"));
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(world_.master_port);
  options.isServer = true;
  options.waitWorkers = false;
  options.timeout = kStoreTimeout;
  options.masterListenFd = listening.release();
  return c10::make_intrusive<c10d::TCPStore>(world_.master_addr, options);
}

void Host::adopt(c10::intrusive_ptr<c10d::Store> store, const RunSecret& secret) {
  // The groups wait by it when this host has gone.
  store_ = c10::make_intrusive<SealedStore>(std::move(store), secret,
                                            [place = place_](SealedStore& asked) {
                                              check_stop();
                                              kvlingua::check_alarm(place, asked);
                                            });
}

// False: nobody answers there yet, or what answers is no store.
bool Host::connect(const RunSecret& secret) {
  if (!is_answered(world_.master_addr, world_.master_port, 1)) return false;
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(world_.master_port);
  options.waitWorkers = false;
  options.timeout = kStoreTimeout;
  try {
    adopt(c10::make_intrusive<c10d::TCPStore>(world_.master_addr, options), secret);
  } catch (const c10::Error&) {
    return false;
  }
  return true;
}

void Host::look_round(std::vector<Seen>& others) {
  for (int64_t r = 1; r < world_.size; ++r) {
    const auto hello = look(hello_key(r));
    if (!hello) continue;
    if (const auto size = hello->value("size", int64_t{0}); size != world_.size)
      alarm("the processes think of different numbers of processes", cat(size), cat(world_.size));
    others[static_cast<size_t>(r)].look(*hello);
    if (others[static_cast<size_t>(r)].gone())
      alarm(cat("process ", r, " has come and gone"), cat("no sign of it for ", kGoneAfter, " s"));
  }
}

void Host::remark(const std::vector<Seen>& others) {
  if (seconds_since(begin_) < next_word_) return;
  next_word_ += kNextWord;
  std::string missing;
  for (size_t r = world_.rank == 0 ? 1 : 0; r < others.size(); ++r)
    if (!others[r].here()) missing += cat(missing.empty() ? "" : ", ", r);
  log_info(cat("process ", world_.rank, " of ", world_.size, ": waiting at ", address(),
               missing.empty() ? std::string(" for the others") : cat(" for process ", missing)));
}

Meeting Host::receive() {
  make_directories(place_.folder);
  FileLock lock(fs::path(file_).replace_extension(".lock"));
  if (!lock.held())
    throw group_error(place_, "another run is beginning in this folder", place_.folder.string());
  const RunSecret secret = RunSecret::make();
  if (!world_.served) adopt(serve(), secret);
  while (!store_ && !connect(secret)) {
    check_stop();
    if (seconds_since(begin_) > place_.patience_seconds)
      throw group_error(place_, cat("torchrun's store does not answer at ", address()));
    std::this_thread::sleep_for(kRound);
  }
  secret.write(file_);
  std::vector<Seen> others(static_cast<size_t>(world_.size));
  const auto here = [&] {
    return 1 +
           std::count_if(others.begin() + 1, others.end(), [](const Seen& s) { return s.here(); });
  };
  try {
    while (true) {
      say_hello();
      look_round(others);
      check_alarm();
      if (here() == world_.size) break;
      if (seconds_since(begin_) > place_.patience_seconds)
        alarm(cat("not all processes have come to ", address()),
              cat(here(), " processes after ", place_.patience_seconds, " s"), cat(world_.size));
      remark(others);
      check_stop();
      std::this_thread::sleep_for(kRound);
    }
  } catch (...) {
    std::error_code ignored;
    fs::remove(file_, ignored);
    throw;
  }
  Json welcome = Json::array({nonce_});
  for (int64_t r = 1; r < world_.size; ++r) welcome.push_back(others[static_cast<size_t>(r)].nonce);
  store_->put("welcome", welcome.dump());
  return met(welcome, std::move(lock));
}

// Another process with this rank writes over what this one says, and goes on doing so.
void Host::check_twin(const Json& mine) {
  twins_ += mine.value("nonce", "") != nonce_;
  if (twins_ >= kTwinSightings)
    alarm("two processes have the same rank", cat("rank ", world_.rank));
}

Meeting Host::visit() {
  std::optional<RunSecret> secret;
  std::vector<Seen> others(1);  // process 0 only
  while (true) {
    check_stop();
    if (others[0].gone())
      throw group_error(place_, "process 0 has come and gone",
                        cat("no sign of it for ", kGoneAfter, " s"));
    if (!others[0].here() && seconds_since(begin_) > place_.patience_seconds)
      throw group_error(place_, cat("process 0 does not answer at ", address()),
                        !secret
                            ? cat("no ", file_.filename().string(), " in ", place_.folder.string())
                        : store_ ? "another run's store"
                                 : "no connection",
                        "MASTER_ADDR, MASTER_PORT and the folder of process 0");
    remark(others);
    auto now = RunSecret::read(file_);
    if (now && (!secret || !(*now == *secret))) {  // process 0 has begun, or begun again
      secret = std::move(now);
      store_.reset();
      others[0] = {};
    }
    try {
      if (secret && (store_ || connect(*secret))) {
        if (const auto mine = look(hello_key(world_.rank)); mine && beat_ > 0) check_twin(*mine);
        say_hello();
        check_alarm();
        if (const auto first = look(hello_key(0))) others[0].look(*first);
        const auto welcome = look("welcome");
        const auto me = static_cast<size_t>(world_.rank);
        if (welcome && me < welcome->size() && (*welcome)[me] == nonce_) return met(*welcome, {});
      }
    } catch (const c10::Error&) {  // the server has gone
      store_.reset();
    }
    std::this_thread::sleep_for(kRound);
  }
}

Meeting Host::meet() { return world_.is_main() ? receive() : visit(); }

}  // namespace

Error group_error(const GroupPlace& place, const std::string& what, const std::string& got,
                  const std::string& expected) {
  return Error({.where = cat("process ", place.world.rank, " of ", place.world.size),
                .what = what,
                .got = got,
                .expected = expected,
                .remedy = "look at what the other processes said; start all of them again, and "
                          "training goes on from its last checkpoint"});
}

void Meeting::close(int64_t rank) {
  store->detach();
  if (rank != 0) return;
  std::error_code ignored;
  fs::remove(secret_file, ignored);
  fs::remove(fs::path(secret_file).replace_extension(".lock"), ignored);
  lock = FileLock();
}

Meeting meet(const GroupPlace& place) { return Host(place).meet(); }

}  // namespace kvlingua
