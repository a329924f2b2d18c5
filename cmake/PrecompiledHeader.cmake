# One precompiled header for every target that sees libtorch: ATen's umbrella header alone takes two thirds of such a unit's time
# (10.7 s against 3.8 s). It is built once, by a target of its own; the others reuse it, so their language flags must be the same.
option(KVLINGUA_PCH "precompiled header for what sees libtorch" ON)

function(kvlingua_precompiled_header target)
  if(NOT KVLINGUA_PCH)
    return()
  endif()
  if(NOT TARGET kvlingua_pch)
    file(WRITE "${CMAKE_BINARY_DIR}/pch.cpp" "// holds nothing: the target exists for its precompiled header\n")
    add_library(kvlingua_pch STATIC "${CMAKE_BINARY_DIR}/pch.cpp")
    target_link_libraries(kvlingua_pch PRIVATE kvlingua::torch)
    target_precompile_headers(kvlingua_pch PRIVATE
      "$<$<COMPILE_LANGUAGE:CXX>:<ATen/ATen.h$<ANGLE-R>>" "$<$<COMPILE_LANGUAGE:CXX>:<nlohmann/json.hpp$<ANGLE-R>>"
      "$<$<COMPILE_LANGUAGE:CXX>:<algorithm$<ANGLE-R>>" "$<$<COMPILE_LANGUAGE:CXX>:<functional$<ANGLE-R>>"
      "$<$<COMPILE_LANGUAGE:CXX>:<map$<ANGLE-R>>" "$<$<COMPILE_LANGUAGE:CXX>:<optional$<ANGLE-R>>"
      "$<$<COMPILE_LANGUAGE:CXX>:<string$<ANGLE-R>>" "$<$<COMPILE_LANGUAGE:CXX>:<vector$<ANGLE-R>>")
    # ccache needs the preprocessor to say which precompiled header it read.
    target_compile_options(kvlingua_pch PUBLIC "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>")
  endif()
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>")
  target_precompile_headers(${target} REUSE_FROM kvlingua_pch)
endfunction()
