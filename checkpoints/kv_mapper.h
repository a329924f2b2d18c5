// The mapper artifact of vLLM's semantic router (its src/training/kv_mapper), as `kvlingua export
// vllm` writes it from a ridge projector:
//
//   manifest.json          what it maps from and to, and what each tensor reads
//   weights.safetensors    target.{layer}.{k|v}.W [in, out] and .b [out], float32
//   SHA256SUMS             of both
//
//   y = x W + b      x: the channels of the source layers that the manifest lists for this tensor,
//   side by side in that order, head by head; keys un-rotated on both sides. Whitening is folded
//   in.
#pragma once

#include <filesystem>

#include "checkpoints/checkpoint.h"

namespace kvlingua {

// Writes the three files into an existing folder. Throws Error (kUsage) for a projector that is not
// one linear map a layer.
void write_kv_mapper(const Checkpoint& checkpoint, const std::string& where,
                     const std::filesystem::path& folder);

}  // namespace kvlingua
