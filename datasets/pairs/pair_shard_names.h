// How storage types map to HDF5 types; shared by the writer and the reader of shards.
#pragma once

#include "datasets/pairs/h5_file.h"
#include "datasets/pairs/pair_schema.h"

namespace kvlingua {

inline h5::Type storage_h5_type(StorageType storage) {
  switch (storage) {
    case StorageType::kFloat32:
      return h5::Type::kFloat32;
    case StorageType::kBFloat16:
      return h5::Type::kUint16;
    case StorageType::kFloat16:
      return h5::Type::kFloat16;
    case StorageType::kInt8:
      return h5::Type::kInt8;
  }
  return h5::Type::kFloat32;
}

// Queries and attention outputs have no scales: beside int8 caches they are float16.
inline StorageType query_storage(StorageType storage) {
  return storage == StorageType::kInt8 ? StorageType::kFloat16 : storage;
}

}  // namespace kvlingua
