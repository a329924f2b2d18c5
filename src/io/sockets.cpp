#include "kvlingua/io/sockets.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "kvlingua/base/error.h"

namespace kvlingua {
namespace {

constexpr int kBacklog = 1024;

class Addresses {
 public:
  Addresses(const std::string& host, int64_t port, int type) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = type;
    error_ = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list_);
  }
  ~Addresses() {
    if (list_ != nullptr) ::freeaddrinfo(list_);
  }
  Addresses(const Addresses&) = delete;
  Addresses& operator=(const Addresses&) = delete;
  const addrinfo* first() const { return list_; }
  const char* error() const { return error_ == 0 ? nullptr : ::gai_strerror(error_); }

 private:
  addrinfo* list_ = nullptr;
  int error_ = 0;
};

Socket socket_for(const addrinfo& a, int flags = 0) {
  return Socket(::socket(a.ai_family, a.ai_socktype | SOCK_CLOEXEC | flags, a.ai_protocol));
}

// 0, or the error number.
int try_to_listen(const addrinfo& a, Socket& out) {
  Socket s = socket_for(a);
  if (!s.open()) return errno;
  const int on = 1, off = 0;
  ::setsockopt(s.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (a.ai_family == AF_INET6) ::setsockopt(s.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (::bind(s.fd(), a.ai_addr, a.ai_addrlen) != 0 || ::listen(s.fd(), kBacklog) != 0) return errno;
  out = std::move(s);
  return 0;
}

int listen_at_any_of(const std::string& host, int64_t port, Socket& out) {
  const Addresses found(host, port, SOCK_STREAM);
  if (found.error() != nullptr) {
    throw Error({.code = ExitCode::kUsage,
                 .where = cat("MASTER_ADDR ", host),
                 .what = "no such host",
                 .got = found.error()});
  }
  int error = EADDRNOTAVAIL;
  for (const addrinfo* a = found.first(); a != nullptr; a = a->ai_next) {
    const int now = try_to_listen(*a, out);
    if (now == 0) return 0;
    if (error == EADDRNOTAVAIL) error = now;
  }
  return error;
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

Socket listen_at(const std::string& host, int64_t port, bool* everywhere) {
  Socket s;
  int error = listen_at_any_of(host, port, s);
  *everywhere = error == EADDRNOTAVAIL;
  if (*everywhere) error = listen_at_any_of("::", port, s);
  if (error == EAFNOSUPPORT || error == EADDRNOTAVAIL) error = listen_at_any_of("0.0.0.0", port, s);
  if (error == 0) return s;
  throw Error({.where = cat(host, ":", port),
               .what = "cannot listen at this port (MASTER_ADDR, MASTER_PORT)",
               .got = std::strerror(error),
               .remedy = "set MASTER_PORT to one that is free"});
}

bool is_answered(const std::string& host, int64_t port, double seconds) {
  const Addresses found(host, port, SOCK_STREAM);
  for (const addrinfo* a = found.first(); a != nullptr; a = a->ai_next) {
    const Socket s = socket_for(*a, SOCK_NONBLOCK);
    if (!s.open()) continue;
    if (::connect(s.fd(), a->ai_addr, a->ai_addrlen) == 0) return true;
    if (errno != EINPROGRESS) continue;
    pollfd fd{s.fd(), POLLOUT, 0};
    if (::poll(&fd, 1, static_cast<int>(seconds * 1000)) <= 0) continue;
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(s.fd(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0) return true;
  }
  return false;
}

std::string address_towards(const std::string& host, int64_t port) {
  const Addresses found(host, port, SOCK_DGRAM);
  for (const addrinfo* a = found.first(); a != nullptr; a = a->ai_next) {
    const Socket s = socket_for(*a);
    if (!s.open() || ::connect(s.fd(), a->ai_addr, a->ai_addrlen) != 0) continue;
    sockaddr_storage mine{};
    socklen_t length = sizeof mine;
    auto* raw = reinterpret_cast<sockaddr*>(&mine);
    std::array<char, NI_MAXHOST> name{};
    if (::getsockname(s.fd(), raw, &length) == 0 &&
        ::getnameinfo(raw, length, name.data(), name.size(), nullptr, 0, NI_NUMERICHOST) == 0)
      return name.data();
  }
  return {};
}

}  // namespace kvlingua
