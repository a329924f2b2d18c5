#include "kvlingua/io/torch_archive.h"

#include <zip.h>

#include <cstring>
#include <map>

#include "kvlingua/base/error.h"
#include "kvlingua/io/json.h"
#include "pickle.h"

namespace kvlingua {
namespace {

constexpr size_t kMaxArchiveBytes = size_t{1} << 40;

[[noreturn]] void corrupt(const std::string& where, const std::string& what,
                          const std::string& got = {}, const std::string& expected = {}) {
  throw Error(
      {.code = ExitCode::kCorrupt, .where = where, .what = what, .got = got, .expected = expected});
}

// A read-only zip over memory whose records are all stored uncompressed.
class StoredZip {
 public:
  StoredZip(std::string_view bytes, std::string where)
      : where_(std::move(where)), size_(bytes.size()) {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* source = zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error);
    zip_ = source ? zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error) : nullptr;
    if (zip_ == nullptr) {
      const std::string reason = zip_error_strerror(&error);
      if (source) zip_source_free(source);
      zip_error_fini(&error);
      corrupt(where_, "not a readable zip archive", reason, "a file written by torch.save");
    }
    zip_error_fini(&error);
  }
  ~StoredZip() { zip_discard(zip_); }
  StoredZip(const StoredZip&) = delete;
  StoredZip& operator=(const StoredZip&) = delete;

  std::vector<std::string> names() const {
    std::vector<std::string> out;
    const zip_int64_t n = zip_get_num_entries(zip_, 0);
    for (zip_int64_t i = 0; i < n; ++i) {
      const char* name = zip_get_name(zip_, static_cast<zip_uint64_t>(i), ZIP_FL_ENC_RAW);
      out.emplace_back(name ? name : "");
    }
    return out;
  }

  std::vector<std::byte> read(const std::string& name) {
    zip_stat_t stat;
    if (zip_stat(zip_, name.c_str(), ZIP_FL_ENC_RAW, &stat) != 0)
      corrupt(where_, "record " + printable(name) + " is missing");
    if (!(stat.valid & ZIP_STAT_SIZE) || stat.comp_method != ZIP_CM_STORE ||
        stat.encryption_method != ZIP_EM_NONE) {
      corrupt(where_, "record " + printable(name) + " is compressed or encrypted", {},
              "a stored record, as torch.save writes");
    }
    total_ += stat.size;
    if (stat.size > size_ || total_ > size_)
      corrupt(where_, "record " + printable(name) + " is larger than the file", cat(stat.size));
    std::vector<std::byte> out(stat.size);
    zip_file_t* file = zip_fopen_index(zip_, stat.index, 0);
    if (file == nullptr)
      corrupt(where_, "record " + printable(name) + " cannot be opened", zip_strerror(zip_));
    const zip_int64_t got = zip_fread(file, out.data(), out.size());
    std::byte extra;
    // Reading past the end makes libzip compare the checksum.
    const bool bad = got != static_cast<zip_int64_t>(out.size()) || zip_fread(file, &extra, 1) != 0;
    zip_fclose(file);
    if (bad)
      corrupt(where_, "record " + printable(name) + " is damaged", "a wrong checksum or length");
    return out;
  }

 private:
  std::string where_;
  uint64_t size_, total_ = 0;
  zip_t* zip_;
};

std::string_view as_text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::vector<std::byte> PtTensor::contiguous_bytes() const {
  const size_t size = static_cast<size_t>(pickle::element_size(dtype));
  int64_t count = 1;
  for (const int64_t n : shape) count *= n;
  std::vector<std::byte> out(static_cast<size_t>(count) * size);
  std::vector<int64_t> index(shape.size(), 0);
  for (int64_t i = 0; i < count; ++i) {
    int64_t at = offset;
    for (size_t d = 0; d < shape.size(); ++d) at += index[d] * stride[d];
    std::memcpy(out.data() + static_cast<size_t>(i) * size,
                storage->data() + static_cast<size_t>(at) * size, size);
    for (size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d]) break;
      index[d] = 0;
    }
  }
  return out;
}

const PtValue* PtValue::find(std::string_view key) const {
  for (const auto& [k, v] : entries) {
    if (k->kind == Kind::kText && k->text == key) return v.get();
  }
  return nullptr;
}

PtPointer read_torch_archive(std::string_view bytes, const std::string& where) {
  StoredZip zip(bytes, where);
  std::string prefix;
  bool found = false;
  for (const std::string& name : zip.names()) {
    const size_t slash = name.find('/');
    if (slash != std::string::npos && name.substr(slash) == "/data.pkl") {
      if (found) corrupt(where, "two pickles in one archive");
      prefix = name.substr(0, slash + 1);
      found = true;
    }
  }
  if (!found) corrupt(where, "no data.pkl in the archive", {}, "a file written by torch.save");
  for (const std::string& name : zip.names()) {
    if (name == prefix + "byteorder" && as_text(zip.read(name)) != "little")
      corrupt(where, "byte order", "not little-endian");
  }
  std::map<std::string, std::shared_ptr<const std::vector<std::byte>>> storages;
  const auto storage = [&](const std::string& key) {
    auto& slot = storages[key];
    if (!slot)
      slot = std::make_shared<const std::vector<std::byte>>(zip.read(prefix + "data/" + key));
    return slot;
  };
  const std::vector<std::byte> pickle_bytes = zip.read(prefix + "data.pkl");
  return pickle::load(as_text(pickle_bytes), where, storage);
}

PtPointer read_torch_archive(const std::filesystem::path& path) {
  return read_torch_archive(read_text_file(path, kMaxArchiveBytes), path.string());
}

PtPointer read_pickle_for_fuzzing(std::string_view pickle_bytes) {
  return pickle::load(pickle_bytes, "fuzz", [](const std::string&) {
    return std::make_shared<const std::vector<std::byte>>();
  });
}

std::string write_torch_archive(const std::vector<PtNamedTensor>& tensors,
                                const std::string& archive_name) {
  const std::string pickle_bytes = pickle::dump_state(tensors);
  static constexpr std::string_view kByteOrder = "little", kVersion = "3\n";
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* sink = zip_source_buffer_create(nullptr, 0, 0, &error);
  zip_t* zip = sink ? zip_open_from_source(sink, ZIP_TRUNCATE, &error) : nullptr;
  const auto fail = [&](const std::string& reason) {
    throw Error({.where = archive_name + ".pt", .what = "cannot be written", .got = reason});
  };
  if (zip == nullptr) fail(zip_error_strerror(&error));
  zip_source_keep(sink);  // the bytes are read back after the archive is closed
  const auto add = [&](const std::string& name, std::string_view bytes) {
    zip_source_t* source = zip_source_buffer(zip, bytes.data(), bytes.size(), 0);
    const zip_int64_t index =
        zip_file_add(zip, (archive_name + "/" + name).c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) fail(zip_strerror(zip));
    zip_set_file_compression(zip, static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0);
    zip_file_set_dostime(zip, static_cast<zip_uint64_t>(index), 0, 0x21,
                         0);  // 1980-01-01: equal input, equal bytes
  };
  add("data.pkl", pickle_bytes);
  add("byteorder", kByteOrder);
  for (size_t i = 0; i < tensors.size(); ++i) add("data/" + std::to_string(i), tensors[i].bytes);
  add("version", kVersion);
  if (zip_close(zip) != 0) fail(zip_strerror(zip));
  zip_source_open(sink);
  zip_source_seek(sink, 0, SEEK_END);
  std::string out(static_cast<size_t>(zip_source_tell(sink)), '\0');
  zip_source_seek(sink, 0, SEEK_SET);
  const zip_int64_t got = zip_source_read(sink, out.data(), out.size());
  zip_source_close(sink);
  zip_source_free(sink);
  if (got != static_cast<zip_int64_t>(out.size())) fail("a short read");
  return out;
}

}  // namespace kvlingua
