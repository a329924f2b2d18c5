// The few things about TCP addresses that processes which look for each other need to know. Hosts
// are names or numbers, IPv4 or IPv6.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace kvlingua {

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket();
  int fd() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// Listens at that address of this machine and at no other. Where `host` is no address of this
// machine (one that a router translates), at all of them, and `everywhere` says so. Throws Error
// (kFailed) when the port is taken, (kUsage) when the host is not known.
Socket listen_at(const std::string& host, int64_t port, bool* everywhere);

// Whether somebody takes connections there, asked for at most so long.
bool is_answered(const std::string& host, int64_t port, double seconds);

// The address of this machine from which packets to `host` go, in numbers: the one at which a
// process there reaches us. Empty when there is no way.
std::string address_towards(const std::string& host, int64_t port);

}  // namespace kvlingua
