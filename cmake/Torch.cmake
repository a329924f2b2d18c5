# Imported targets over a libtorch, found in this order:
#   1. -DKVLINGUA_TORCH_ROOT=DIR  (a folder with include/ and lib/; an unpacked libtorch zip or .../site-packages/torch)
#   2. CMAKE_PREFIX_PATH entries that hold lib/libtorch_cpu.so
#   3. <deps>/site/torch, where scripts/setup.sh puts the wheel
#   4. the torch of the first python3 on PATH that can import one
# find_package(Torch) is not used: it fails without nvcc even for a CPU build, and configures in 8-18 s.
#
#   kvlingua::torch        headers, libc10 and libtorch_cpu; with CUDA in the libtorch also libtorch_cuda and libc10_cuda
set(KVLINGUA_DEPS "${PROJECT_SOURCE_DIR}/.deps" CACHE PATH "where scripts/setup.sh installs what the system lacks")
if(DEFINED ENV{KVLINGUA_DEPS} AND NOT "$ENV{KVLINGUA_DEPS}" STREQUAL "")
  set(KVLINGUA_DEPS "$ENV{KVLINGUA_DEPS}" CACHE PATH "" FORCE)
endif()
set(KVLINGUA_TORCH_ROOT "" CACHE PATH "a libtorch: the folder that holds include/ and lib/")

if(NOT KVLINGUA_TORCH_ROOT)
  foreach(prefix IN LISTS CMAKE_PREFIX_PATH ITEMS "${KVLINGUA_DEPS}/site/torch")
    if(EXISTS "${prefix}/lib/libtorch_cpu.so")
      set(KVLINGUA_TORCH_ROOT "${prefix}" CACHE PATH "" FORCE)
      break()
    endif()
  endforeach()
endif()
if(NOT KVLINGUA_TORCH_ROOT)
  execute_process(
    COMMAND python3 -c "import torch, os; print(os.path.dirname(torch.__file__))"
    OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(found AND EXISTS "${found}/lib/libtorch_cpu.so")
    set(KVLINGUA_TORCH_ROOT "${found}" CACHE PATH "" FORCE)
  endif()
endif()
if(NOT EXISTS "${KVLINGUA_TORCH_ROOT}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "no libtorch found: run scripts/setup.sh, or pass -DKVLINGUA_TORCH_ROOT=DIR (holding include/ and lib/)")
endif()

file(STRINGS "${KVLINGUA_TORCH_ROOT}/include/torch/headeronly/version.h" version_lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
if(NOT version_lines)
  file(STRINGS "${KVLINGUA_TORCH_ROOT}/include/torch/csrc/api/include/torch/version.h" version_lines
       REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
endif()
string(REGEX REPLACE "[^0-9;]" "" version_digits "${version_lines}")
string(REPLACE ";" "." KVLINGUA_TORCH_VERSION "${version_digits}")
message(STATUS "libtorch ${KVLINGUA_TORCH_VERSION} in ${KVLINGUA_TORCH_ROOT}")

# Python packages beside the wheel may hold the CUDA libraries it was linked against.
file(GLOB nvidia_lib_dirs LIST_DIRECTORIES true "${KVLINGUA_TORCH_ROOT}/../nvidia/*/lib")
set(torch_rpath "${KVLINGUA_TORCH_ROOT}/lib" ${nvidia_lib_dirs})

add_library(kvlingua_torch INTERFACE)
add_library(kvlingua::torch ALIAS kvlingua_torch)
target_include_directories(kvlingua_torch SYSTEM INTERFACE
  "${KVLINGUA_TORCH_ROOT}/include" "${KVLINGUA_TORCH_ROOT}/include/torch/csrc/api/include")
# clang writes the names of constrained templates in another way from 18 on; libtorch's are GCC's.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 18)
  target_compile_options(kvlingua_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fclang-abi-compat=17>)
endif()
target_compile_definitions(kvlingua_torch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO USE_RPC USE_TENSORPIPE)
if(EXISTS "${KVLINGUA_TORCH_ROOT}/lib/libtorch_cuda.so")
  set(torch_has_cuda ON)
else()
  set(torch_has_cuda OFF)
endif()
if(KVLINGUA_CUDA AND torch_has_cuda)
  target_link_libraries(kvlingua_torch INTERFACE
    "-Wl,--no-as-needed" "${KVLINGUA_TORCH_ROOT}/lib/libtorch_cuda.so" "${KVLINGUA_TORCH_ROOT}/lib/libc10_cuda.so" "-Wl,--as-needed")
  target_compile_definitions(kvlingua_torch INTERFACE USE_C10D_NCCL KVLINGUA_CUDA=1)
  target_include_directories(kvlingua_torch SYSTEM INTERFACE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
endif()
target_link_libraries(kvlingua_torch INTERFACE
  "${KVLINGUA_TORCH_ROOT}/lib/libtorch_cpu.so" "${KVLINGUA_TORCH_ROOT}/lib/libc10.so")
# at::parallel_for is a template: without OpenMP where it is used, it is a plain loop there. The runtime must be the one libtorch
# has loaded, whatever its wheel calls it.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  file(GLOB torch_gomp "${KVLINGUA_TORCH_ROOT}/lib/libgomp*.so*" "${KVLINGUA_TORCH_ROOT}/../torch.libs/libgomp*.so*")
  if(NOT torch_gomp)
    find_package(OpenMP REQUIRED COMPONENTS CXX)
    set(torch_gomp ${OpenMP_gomp_LIBRARY})
  endif()
  list(GET torch_gomp 0 torch_gomp)
  message(STATUS "OpenMP: ${torch_gomp}")
  target_compile_options(kvlingua_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
  target_link_libraries(kvlingua_torch INTERFACE "${torch_gomp}")
endif()
target_link_options(kvlingua_torch INTERFACE "-Wl,--allow-shlib-undefined")
foreach(dir IN LISTS torch_rpath)
  target_link_options(kvlingua_torch INTERFACE "-Wl,-rpath,${dir}")
endforeach()

# ProcessGroupGloo.hpp includes Gloo's headers, which no wheel has; Debian's serve, since its objects are made inside libtorch.
# Never link Debian's libgloo: its symbols are libtorch's own. ProcessGroupNCCL.hpp needs nccl.h, which a toolkit or NCCL's wheel has.
find_path(KVLINGUA_GLOO_INCLUDE gloo/context.h)
if(NOT KVLINGUA_GLOO_INCLUDE)
  message(FATAL_ERROR "no gloo/context.h: install libgloo-dev (scripts/setup.sh does)")
endif()
file(GLOB nccl_wheels LIST_DIRECTORIES true "${KVLINGUA_TORCH_ROOT}/../nvidia/nccl/include")
find_path(KVLINGUA_NCCL_INCLUDE nccl.h HINTS ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES} ${nccl_wheels})
if(KVLINGUA_CUDA AND torch_has_cuda AND KVLINGUA_NCCL_INCLUDE)
  message(STATUS "NCCL: ${KVLINGUA_NCCL_INCLUDE}/nccl.h")
else()
  set(KVLINGUA_NCCL_INCLUDE "" CACHE PATH "" FORCE)
  message(STATUS "NCCL: none, tensors of a GPU go through host memory where processes add them")
endif()
