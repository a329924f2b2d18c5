// From the words of a recipe or command line to torch's device and compute type.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string_view>

namespace kvlingua {

// "auto", "cpu", "cuda", "cuda:N". auto: the GPU of this process (local_rank) when there is one,
// else the CPU. Throws Error: kUsage for another word, kDevice when a GPU is asked for and absent.
at::Device resolve_device(std::string_view name, int64_t local_rank = 0);

// "auto", "float32", "bfloat16", "float16". auto: float32 on the CPU, on a GPU bfloat16 where it is
// native, else float16. Throws Error (kUsage).
at::ScalarType resolve_dtype(std::string_view name, at::Device device);

}  // namespace kvlingua
