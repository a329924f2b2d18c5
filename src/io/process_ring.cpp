#include "kvlingua/io/process_ring.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kMagic = 0x6b766c2d72696e67;  // "kvl-ring"
constexpr size_t kSegmentBytes = 1 << 20;        // of each process' share in one turn of the ring
constexpr size_t kMostText = size_t{1} << 30;

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

struct Hello {
  uint64_t magic = kMagic;
  int64_t rank = 0, size = 0;
  int64_t port = 0;  // where it listens for its left neighbour
};
struct Neighbour {
  std::array<char, 64> address{};
  int64_t port = 0;
};

[[noreturn]] void fail(const RingPlace& place, const std::string& what, const std::string& got,
                       const std::string& expected = {}) {
  throw Error({.where = cat("process ", place.rank, " of ", place.size),
               .what = what,
               .got = got,
               .expected = expected,
               .remedy = "look at what the other processes said; start all of them again, and "
                         "training goes on from its last checkpoint"});
}

int milliseconds_until(Clock::time_point end) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
  return static_cast<int>(std::max<int64_t>(0, left.count()));
}

// Both directions of one transfer at once; either may be empty. False: the other side has gone, or
// `end` has passed.
bool exchange(int to, const char* out, size_t out_bytes, int from, char* in, size_t in_bytes,
              std::optional<Clock::time_point> end = std::nullopt) {
  while (out_bytes > 0 || in_bytes > 0) {
    std::array<pollfd, 2> fds{pollfd{out_bytes > 0 ? to : -1, POLLOUT, 0},
                              pollfd{in_bytes > 0 ? from : -1, POLLIN, 0}};
    const int ready = ::poll(fds.data(), fds.size(), end ? milliseconds_until(*end) : -1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const auto move = [](ssize_t n, size_t& left) {
      if (n > 0) left -= static_cast<size_t>(n);
      return n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
    };
    if (fds[1].revents != 0) {
      const ssize_t n = ::recv(from, in, in_bytes, MSG_DONTWAIT);
      if (!move(n, in_bytes)) return false;
      in += std::max<ssize_t>(n, 0);
    }
    if (fds[0].revents != 0) {
      const ssize_t n = ::send(to, out, out_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (!move(n, out_bytes)) return false;
      out += std::max<ssize_t>(n, 0);
    }
  }
  return true;
}

template <class T>
bool send_value(const Socket& s, const T& value, Clock::time_point end) {
  return exchange(s.fd(), reinterpret_cast<const char*>(&value), sizeof value, -1, nullptr, 0, end);
}
template <class T>
bool receive_value(const Socket& s, T& value, Clock::time_point end) {
  return exchange(-1, nullptr, 0, s.fd(), reinterpret_cast<char*>(&value), sizeof value, end);
}

struct Addresses {
  addrinfo* list = nullptr;
  ~Addresses() {
    if (list != nullptr) ::freeaddrinfo(list);
  }
};
int look_up(const std::string& host, int64_t port, Addresses& out) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  return ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &out.list);
}

bool is_loopback(const std::string& host) {
  Addresses found;
  if (look_up(host, 0, found) != 0) return false;
  if (found.list->ai_family == AF_INET6)
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<sockaddr_in6*>(found.list->ai_addr)->sin6_addr);
  const auto* v4 = reinterpret_cast<sockaddr_in*>(found.list->ai_addr);
  return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
}

void prepare(const Socket& s) {
  const int on = 1, idle = 30, interval = 10, count = 6;  // a machine that vanished: after 90 s
  ::setsockopt(s.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(s.fd(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(s.fd(), IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  ::setsockopt(s.fd(), IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  ::setsockopt(s.fd(), IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

// Where all processes are on one machine nobody else can connect: only the loopback is bound.
Socket listen_at(const RingPlace& place, int64_t port, int64_t* bound) {
  const bool local = is_loopback(place.master_address);
  for (const int family : {AF_INET6, AF_INET}) {
    if (local && family == AF_INET6) continue;
    Socket s(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!s.open()) continue;
    const int on = 1, off = 0;
    ::setsockopt(s.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_storage address{};
    socklen_t length = 0;
    if (family == AF_INET6) {
      ::setsockopt(s.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
      auto* a = reinterpret_cast<sockaddr_in6*>(&address);
      a->sin6_family = AF_INET6;
      a->sin6_port = htons(static_cast<uint16_t>(port));
      a->sin6_addr = in6addr_any;
      length = sizeof *a;
    } else {
      auto* a = reinterpret_cast<sockaddr_in*>(&address);
      a->sin_family = AF_INET;
      a->sin_port = htons(static_cast<uint16_t>(port));
      a->sin_addr.s_addr = htonl(local ? INADDR_LOOPBACK : INADDR_ANY);
      length = sizeof *a;
    }
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    if (::bind(s.fd(), raw, length) != 0 || ::listen(s.fd(), 1024) != 0) {
      if (family == AF_INET6 && errno != EADDRINUSE) continue;
      fail(place, cat("cannot listen at port ", port, " (MASTER_PORT)"), std::strerror(errno));
    }
    ::getsockname(s.fd(), raw, &length);
    *bound = ntohs(family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                      : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
    return s;
  }
  fail(place, "cannot make a socket", std::strerror(errno));
}

Socket accept_until(const Socket& listener, Clock::time_point end, std::string* address) {
  while (true) {
    pollfd fd{listener.fd(), POLLIN, 0};
    const int ready = ::poll(&fd, 1, milliseconds_until(end));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return {};
    sockaddr_storage from{};
    socklen_t length = sizeof from;
    Socket s(::accept4(listener.fd(), reinterpret_cast<sockaddr*>(&from), &length, SOCK_CLOEXEC));
    if (!s.open()) continue;
    std::array<char, NI_MAXHOST> name{};
    ::getnameinfo(reinterpret_cast<sockaddr*>(&from), length, name.data(), name.size(), nullptr, 0,
                  NI_NUMERICHOST);
    if (address != nullptr) *address = name.data();
    prepare(s);
    return s;
  }
}

// Tries again until the other side listens.
Socket connect_until(const std::string& host, int64_t port, Clock::time_point end) {
  while (Clock::now() < end) {
    Addresses found;
    if (look_up(host, port, found) == 0) {
      for (const addrinfo* a = found.list; a != nullptr; a = a->ai_next) {
        Socket s(::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (s.open() && ::connect(s.fd(), a->ai_addr, a->ai_addrlen) == 0) {
          prepare(s);
          return s;
        }
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return {};
}

// Process 0: collects everybody's address and tells each where its right neighbour listens.
Neighbour introduce(const RingPlace& place, const Socket& listener, int64_t my_port,
                    Clock::time_point end) {
  struct Peer {
    Socket socket;
    Neighbour where;
  };
  std::vector<Peer> peers(static_cast<size_t>(place.size));
  int64_t here = 1;
  while (here < place.size) {
    std::string address;
    Socket s = accept_until(listener, end, &address);
    if (!s.open()) {
      fail(place,
           cat("not all processes have come to ", place.master_address, ":", place.master_port),
           cat(here, " processes after ", place.patience_seconds, " s"), cat(place.size));
    }
    Hello hello;
    const auto soon = std::min(end, Clock::now() + std::chrono::seconds(10));
    if (!receive_value(s, hello, soon) || hello.magic != kMagic) continue;  // a stranger
    if (hello.size != place.size)
      fail(place, "the processes think of different numbers of processes", cat(hello.size),
           cat(place.size));
    if (hello.rank < 1 || hello.rank >= place.size)
      fail(place, "a rank outside the world", cat(hello.rank));
    Peer& peer = peers[static_cast<size_t>(hello.rank)];
    if (peer.socket.open())
      fail(place, "two processes have the same rank", cat("rank ", hello.rank));
    std::strncpy(peer.where.address.data(), address.c_str(), peer.where.address.size() - 1);
    peer.where.port = hello.port;
    peer.socket = std::move(s);
    ++here;
  }
  Neighbour mine;  // empty address: at the master's
  mine.port = my_port;
  peers[0].where = mine;
  for (size_t r = 1; r < peers.size(); ++r) {
    const Neighbour& right = peers[(r + 1) % peers.size()].where;
    if (!send_value(peers[r].socket, right, end))
      fail(place, cat("process ", r, " has gone"), "a closed connection");
  }
  return peers[1 % peers.size()].where;
}

}  // namespace

struct ProcessRing::Impl {
  RingPlace place;
  Socket left, right;  // receives from left, sends to right
  std::vector<char> room;

  void turn(const void* out, size_t out_bytes, void* in, size_t in_bytes) const {
    if (exchange(right.fd(), static_cast<const char*>(out), out_bytes, left.fd(),
                 static_cast<char*>(in), in_bytes))
      return;
    fail(place, "another process of this run has stopped", "a closed connection");
  }

  template <class T>
  void sum_segment(T* data, size_t count) {
    const auto n = static_cast<size_t>(place.size), me = static_cast<size_t>(place.rank);
    const size_t share = (count + n - 1) / n;
    room.resize(share * sizeof(T));
    const auto begin = [&](size_t part) { return std::min(count, part % n * share); };
    const auto size = [&](size_t part) {
      return std::min(count, begin(part) + share) - begin(part);
    };
    // After n - 1 turns this process holds the whole sum of part me + 1.
    for (size_t step = 0; step + 1 < n; ++step) {
      const size_t out = me + n - step, in = me + 2 * n - step - 1;
      turn(data + begin(out), size(out) * sizeof(T), room.data(), size(in) * sizeof(T));
      T* to = data + begin(in);
      const T* from = reinterpret_cast<const T*>(room.data());
      for (size_t i = 0; i < size(in); ++i) to[i] += from[i];
    }
    for (size_t step = 0; step + 1 < n; ++step) {
      const size_t out = me + n + 1 - step, in = me + n - step;
      turn(data + begin(out), size(out) * sizeof(T), data + begin(in), size(in) * sizeof(T));
    }
  }

  template <class T>
  void sum(T* data, size_t count) {
    const size_t segment = kSegmentBytes / sizeof(T) * static_cast<size_t>(place.size);
    for (size_t at = 0; at < count; at += segment)
      sum_segment(data + at, std::min(segment, count - at));
  }
};

ProcessRing::ProcessRing(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ProcessRing::~ProcessRing() = default;

std::unique_ptr<ProcessRing> ProcessRing::join(const RingPlace& place) {
  auto impl = std::make_unique<Impl>();
  impl->place = place;
  if (place.size == 1) return std::unique_ptr<ProcessRing>(new ProcessRing(std::move(impl)));
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(place.patience_seconds));
  int64_t port = 0, ignored = 0;
  const Socket listener = listen_at(place, 0, &port);
  Neighbour right;
  if (place.rank == 0) {
    const Socket meeting = listen_at(place, place.master_port, &ignored);
    right = introduce(place, meeting, port, end);
  } else {
    const Socket master = connect_until(place.master_address, place.master_port, end);
    const Hello hello{.rank = place.rank, .size = place.size, .port = port};
    if (!master.open() || !send_value(master, hello, end) || !receive_value(master, right, end)) {
      fail(place,
           cat("process 0 does not answer at ", place.master_address, ":", place.master_port),
           master.open() ? "a closed connection" : "no connection",
           "MASTER_ADDR and MASTER_PORT of process 0");
    }
    right.address.back() = '\0';
  }
  const std::string host =
      right.address[0] == '\0' ? place.master_address : std::string(right.address.data());
  impl->right = connect_until(host, right.port, end);
  const Hello me{.rank = place.rank, .size = place.size};
  if (!impl->right.open() || !send_value(impl->right, me, end))
    fail(place, cat("cannot reach the next process at ", host, ":", right.port), "no connection");
  while (!impl->left.open()) {
    Socket s = accept_until(listener, end, nullptr);
    if (!s.open()) fail(place, "the process before this one does not come", "nobody");
    Hello hello;
    if (receive_value(s, hello, end) && hello.magic == kMagic &&
        hello.rank == (place.rank + place.size - 1) % place.size)
      impl->left = std::move(s);
  }
  return std::unique_ptr<ProcessRing>(new ProcessRing(std::move(impl)));
}

int64_t ProcessRing::rank() const { return impl_->place.rank; }
int64_t ProcessRing::size() const { return impl_->place.size; }
void ProcessRing::sum(float* data, size_t count) { impl_->sum(data, count); }
void ProcessRing::sum(double* data, size_t count) { impl_->sum(data, count); }

void ProcessRing::broadcast(void* data, size_t bytes) {
  const Impl& s = *impl_;
  if (s.place.size == 1) return;
  char* at = static_cast<char*>(data);
  for (size_t done = 0; done < bytes; done += kSegmentBytes) {
    const size_t n = std::min(kSegmentBytes, bytes - done);
    if (s.place.rank > 0) s.turn(nullptr, 0, at + done, n);
    if (s.place.rank + 1 < s.place.size) s.turn(at + done, n, nullptr, 0);
  }
}

std::string ProcessRing::broadcast(const std::string& text) {
  uint64_t size = text.size();
  broadcast(&size, sizeof size);
  if (size > kMostText) fail(impl_->place, "a text too long", cat(size, " bytes"));
  std::string out = impl_->place.rank == 0 ? text : std::string(size, '\0');
  broadcast(out.data(), out.size());
  return out;
}

}  // namespace kvlingua
