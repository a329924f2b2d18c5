// RunSecret: what only the processes of one run know. Process 0 makes it and leaves it in the run's
// folder, in a file that nobody but its user may read; the others read it there. Who has it, is in.
//
// It is a private key with its self-signed certificate, as PEM text: both sides of a TLS connection
// show the certificate and trust no other. From the same text come the key under which values are
// sealed for a place that anybody can reach (AES-256-GCM: nobody else reads, alters or makes one)
// and the names they have there.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace kvlingua {

class RunSecret {
 public:
  static RunSecret make();
  // Empty when the file is not there. Throws Error (kInput) when it is no secret, or others than
  // its user may read it.
  static std::optional<RunSecret> read(const std::filesystem::path& file);
  void write(const std::filesystem::path& file) const;  // mode 0600, whole or not at all

  const std::string& pem() const { return pem_; }
  bool operator==(const RunSecret& other) const { return pem_ == other.pem_; }

  // The name of `key` in a public place; who has not the secret cannot guess it.
  std::string name(std::string_view key) const;
  // A value of `key`, sealed; each call gives other bytes.
  std::string seal(std::string_view key, std::string_view value) const;
  // The value, or nothing when it was not sealed with this secret and for this key.
  std::optional<std::string> open(std::string_view key, std::string_view sealed) const;

 private:
  explicit RunSecret(std::string pem);
  std::string pem_, key_;
};

// Random bits of the system, as lower-case hexadecimal digits.
std::string random_hex(size_t bytes);

}  // namespace kvlingua
