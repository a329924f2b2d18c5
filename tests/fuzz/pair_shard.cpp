// layers: datasets
// A shard with changed numbers in its index: refused when it is opened, or all of it can be read.
#include "datasets/pairs/pair_shard.h"

#include <hdf5.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "kvlingua/base/error.h"
#include "mutations.h"
#include "support/pair_fixtures.h"

namespace {

constexpr const char* kArrays[] = {
    "samples/id",           "samples/document",     "samples/use",        "samples/text_offsets",
    "source/token_offsets", "source/ids",           "source/row_offsets", "source/row_token",
    "source/row_position",  "target/token_offsets", "target/ids",         "target/row_offsets",
    "target/row_token",     "target/row_position",  "target/alignment",   "target/source_row"};

struct Place {
  size_t offset, count, width;
};

// Where each array lies in the valid file.
std::vector<Place> places_of(const std::filesystem::path& path) {
  std::vector<Place> places;
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  for (const char* name : kArrays) {
    const hid_t set = H5Dopen2(file, name, H5P_DEFAULT), type = H5Dget_type(set),
                space = H5Dget_space(set);
    places.push_back({static_cast<size_t>(H5Dget_offset(set)),
                      static_cast<size_t>(H5Sget_simple_extent_npoints(space)), H5Tget_size(type)});
    H5Sclose(space), H5Tclose(type), H5Dclose(set);
  }
  H5Fclose(file);
  return places;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvlingua;
  static const PairSetInfo info = testing::small_info();
  static const std::filesystem::path folder = [] {
    const auto made = fuzz::scratch("shard");
    testing::make_pair_set(made, info, 5, 5);
    return made;
  }();
  static const std::filesystem::path path = folder / shard_file_name(0);
  static const std::vector<Place> places = places_of(path);
  static const std::string valid = [] {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }();
  std::string changed = valid;
  fuzz::Bytes bytes(data, size);
  for (int changes = 1 + bytes.byte() % 4; changes > 0; --changes) {
    const Place& place = places[bytes.below(static_cast<uint32_t>(places.size()))];
    if (place.count == 0) continue;
    char* at = changed.data() + place.offset +
               place.width * bytes.below(static_cast<uint32_t>(place.count));
    int64_t now = 0;
    std::memcpy(&now, at, place.width);
    if (place.width == 4) now = static_cast<int32_t>(now);
    now = bytes.number(now);
    std::memcpy(at, &now, place.width);
  }
  std::ofstream(path, std::ios::binary | std::ios::trunc) << changed;
  try {
    const ShardFile shard(path, info);
    const ShardIndex& x = shard.index();
    for (int64_t i = 0; i < x.samples(); ++i) {
      const SampleRecord r = shard.sample(i);
      // As what trains reads them, unchecked.
      for (size_t k = 0; k < r.target.row_token.size(); ++k) {
        const int32_t token = r.target.row_token[k];
        if (r.target.ids.at(static_cast<size_t>(token)) < 0) std::abort();
        if (r.source.row_token.at(static_cast<size_t>(r.target_source_row.at(k))) !=
            r.alignment.at(static_cast<size_t>(token)))
          std::abort();
      }
    }
    for (const Side side : {Side::kSource, Side::kTarget}) {
      const int64_t rows =
          side == Side::kSource ? x.source_row_offsets.back() : x.target_row_offsets.back();
      shard.rows(side, 0, rows);
    }
    shard.target_source_rows(0, x.target_row_offsets.back());
  } catch (const Error& error) {
    if (error.code() != ExitCode::kCorrupt) std::abort();
  }
  return 0;
}
