// Checkpoints of other systems in and out: what `kvlingua import` and `kvlingua export` do.
//
//   c2c           Cache-to-Cache's folders (c2c_import.h); weights keep their dtype, so in and out
//                 again is bit-equal
//   safetensors   projector.safetensors and projector.json of a checkpoint with SHA256SUMS,
//                 for other programs
//   vllm          the mapper artifact of vLLM's semantic router (kv_mapper.h), from a ridge
//                 map; out only
#pragma once

#include <filesystem>
#include <string>

namespace kvlingua {

// A kvlingua checkpoint folder from another system's. The pair's weights are unknown there, so only
// shapes are checked when it is used. Throws Error: kUsage for an unknown format, kInput and
// kCorrupt as the reader does, kInput when `out` exists.
void import_checkpoint(const std::string& format, const std::filesystem::path& from,
                       const std::filesystem::path& out);

// `from`: a checkpoint or a run. Throws Error: kUsage for a format that does not suit the
// projector's kind.
void export_checkpoint(const std::string& format, const std::filesystem::path& from,
                       const std::filesystem::path& out);

}  // namespace kvlingua
