#include "kvlingua/io/run_secret.h"

#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "kvlingua/base/error.h"
#include "kvlingua/io/sha256.h"

namespace kvlingua {
namespace {

constexpr size_t kNonceBytes = 12, kTagBytes = 16;
constexpr size_t kMostPem = 1 << 16;
constexpr long kDay = 24 * 60 * 60;

template <auto free>
struct Free {
  template <class T>
  void operator()(T* object) const {
    free(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Free<EVP_PKEY_CTX_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Memory = std::unique_ptr<BIO, Free<BIO_free_all>>;
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, Free<EVP_CIPHER_CTX_free>>;

void need(bool fine, const char* what) {
  if (!fine) throw Error({.where = "OpenSSL", .what = what});
}

unsigned char* bytes_of(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string random_bytes(size_t count) {
  std::string out(count, '\0');
  need(RAND_bytes(bytes_of(out), static_cast<int>(count)) == 1, "no random numbers");
  return out;
}

Key make_key() {
  const KeyContext context(EVP_PKEY_CTX_new_id(EVP_PKEY_EC, nullptr));
  EVP_PKEY* key = nullptr;
  need(context && EVP_PKEY_keygen_init(context.get()) > 0 &&
           EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context.get(), NID_X9_62_prime256v1) > 0 &&
           EVP_PKEY_CTX_set_ec_param_enc(context.get(), OPENSSL_EC_NAMED_CURVE) > 0 &&
           EVP_PKEY_keygen(context.get(), &key) > 0,
       "cannot make a key");
  return Key(key);
}

// Valid from yesterday, since clocks differ, for longer than any run.
Certificate make_certificate(EVP_PKEY* key) {
  Certificate certificate(X509_new());
  X509* const x = certificate.get();
  X509_NAME* const name = x == nullptr ? nullptr : X509_get_subject_name(x);
  need(name != nullptr && X509_set_version(x, 2) == 1 &&
           ASN1_INTEGER_set(X509_get_serialNumber(x), 1) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(x), -kDay) != nullptr &&
           X509_gmtime_adj(X509_getm_notAfter(x), 3650 * kDay) != nullptr &&
           X509_set_pubkey(x, key) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                      reinterpret_cast<const unsigned char*>("kvlingua run"), -1,
                                      -1, 0) == 1 &&
           X509_set_issuer_name(x, name) == 1,
       "cannot make a certificate");
  X509_EXTENSION* const authority =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, "critical,CA:TRUE");
  need(authority != nullptr && X509_add_ext(x, authority, -1) == 1, "cannot make a certificate");
  X509_EXTENSION_free(authority);
  need(X509_sign(x, key, EVP_sha256()) > 0, "cannot sign a certificate");
  return certificate;
}

}  // namespace

RunSecret::RunSecret(std::string pem) : pem_(std::move(pem)) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  const std::string text = "kvlingua seal\n" + pem_;
  need(EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1,
       "no SHA-256");
  key_.assign(reinterpret_cast<const char*>(digest.data()), size);
}

RunSecret RunSecret::make() {
  const Key key = make_key();
  const Certificate certificate = make_certificate(key.get());
  const Memory memory(BIO_new(BIO_s_mem()));
  need(memory &&
           PEM_write_bio_PKCS8PrivateKey(memory.get(), key.get(), nullptr, nullptr, 0, nullptr,
                                         nullptr) == 1 &&
           PEM_write_bio_X509(memory.get(), certificate.get()) == 1,
       "cannot write a certificate");
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return RunSecret(std::string(text, static_cast<size_t>(size)));
}

std::optional<RunSecret> RunSecret::read(const std::filesystem::path& file) {
  const auto unusable = [&](const char* what, std::string got, const char* expected) {
    return Error({.code = ExitCode::kInput,
                  .where = file.string(),
                  .what = what,
                  .got = std::move(got),
                  .expected = expected,
                  .remedy = "remove the file and start all processes again"});
  };
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) {
    if (errno == ENOENT || errno == ESTALE) return std::nullopt;
    throw unusable("the run's secret cannot be read", std::strerror(errno), "a file of this user");
  }
  struct stat about {};
  std::string text(kMostPem, '\0');
  const bool known = ::fstat(fd, &about) == 0;
  const ssize_t n = known && S_ISREG(about.st_mode) ? ::read(fd, text.data(), text.size()) : -1;
  ::close(fd);
  text.resize(static_cast<size_t>(std::max<ssize_t>(n, 0)));
  if (known && (about.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    throw unusable("others can read the run's secret", cat("mode ", about.st_mode & 0777), "0600");
  if (text.find("PRIVATE KEY") == std::string::npos ||
      text.find("END CERTIFICATE") == std::string::npos)
    throw unusable("this is no secret of a run", cat(text.size(), " bytes"), "key and certificate");
  return RunSecret(std::move(text));
}

// Not by AtomicFile: the file must be private before its first byte, and need not survive a crash.
void RunSecret::write(const std::filesystem::path& file) const {
  const std::filesystem::path temporary =
      file.parent_path() / cat(file.filename().string(), ".tmp-", random_hex(8));
  const int fd =
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
  bool fine = fd >= 0;
  fine = fine && ::write(fd, pem_.data(), pem_.size()) == static_cast<ssize_t>(pem_.size());
  fine = fine && ::fsync(fd) == 0 && ::rename(temporary.c_str(), file.c_str()) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (fine) return;
  ::unlink(temporary.c_str());
  throw Error({.code = error == ENOSPC || error == EDQUOT ? ExitCode::kDiskFull : ExitCode::kInput,
               .where = file.string(),
               .what = "the run's secret cannot be written",
               .got = std::strerror(error)});
}

std::string RunSecret::name(std::string_view key) const {
  return sha256_hex(cat("kvlingua name\n", key_, key));
}

std::string RunSecret::seal(std::string_view key, std::string_view value) const {
  std::string out = random_bytes(kNonceBytes);
  const Cipher cipher(EVP_CIPHER_CTX_new());
  std::string hidden(value.size(), '\0'), tag(kTagBytes, '\0');
  int n = 0;
  need(cipher &&
           EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr,
                              bytes_of(std::string_view(key_)), bytes_of(std::string_view(out))) &&
           EVP_EncryptUpdate(cipher.get(), nullptr, &n, bytes_of(key),
                             static_cast<int>(key.size())) == 1 &&
           EVP_EncryptUpdate(cipher.get(), bytes_of(hidden), &n, bytes_of(value),
                             static_cast<int>(value.size())) == 1 &&
           EVP_EncryptFinal_ex(cipher.get(), bytes_of(tag), &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag.data()) == 1,
       "cannot seal");
  return out + hidden + tag;
}

std::optional<std::string> RunSecret::open(std::string_view key, std::string_view sealed) const {
  if (sealed.size() < kNonceBytes + kTagBytes) return std::nullopt;
  const std::string_view nonce = sealed.substr(0, kNonceBytes);
  const std::string_view hidden =
      sealed.substr(kNonceBytes, sealed.size() - kNonceBytes - kTagBytes);
  std::string tag(sealed.substr(sealed.size() - kTagBytes));
  std::string value(hidden.size(), '\0');
  const Cipher cipher(EVP_CIPHER_CTX_new());
  int n = 0;
  const bool fine =
      cipher &&
      EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, bytes_of(std::string_view(key_)),
                         bytes_of(nonce)) == 1 &&
      EVP_DecryptUpdate(cipher.get(), nullptr, &n, bytes_of(key), static_cast<int>(key.size())) ==
          1 &&
      EVP_DecryptUpdate(cipher.get(), bytes_of(value), &n, bytes_of(hidden),
                        static_cast<int>(hidden.size())) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(cipher.get(), nullptr, &n) == 1;
  return fine ? std::optional(value) : std::nullopt;
}

std::string random_hex(size_t bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char c : random_bytes(bytes)) {
    out += kDigits[static_cast<unsigned char>(c) >> 4];
    out += kDigits[c & 15];
  }
  return out;
}

}  // namespace kvlingua
