// The pickle machine behind torch_archive.h: data opcodes of protocol 2 to 4 and an allow-list of
// globals.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "kvlingua/io/torch_archive.h"

namespace kvlingua::pickle {

// Gives the bytes of storage record `key` or throws.
using StorageLoader =
    std::function<std::shared_ptr<const std::vector<std::byte>>(const std::string& key)>;

PtPointer load(std::string_view pickle, const std::string& where, const StorageLoader& storage);

// Size in bytes of an element; 0 for an unknown name.
int64_t element_size(std::string_view dtype);

// The pickle of OrderedDict(name -> _rebuild_tensor_v2 over storage "0", "1", ...).
std::string dump_state(const std::vector<PtNamedTensor>& tensors);

}  // namespace kvlingua::pickle
