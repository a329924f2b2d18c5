# cmake --install: the program with its recipes and the embedded pair, and the library that find_package(kvlingua) finds. Of the stages
# the store of checkpoints belongs to it; generation, training and evaluation are the program's.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(library_layers base config io text kernels cache model projector bridge checkpoints)
set(library_targets ${library_layers})
list(TRANSFORM library_targets PREPEND kvlingua_)
add_library(kvlingua_all INTERFACE)
target_link_libraries(kvlingua_all INTERFACE kvlingua_checkpoints)
set_target_properties(kvlingua_all PROPERTIES EXPORT_NAME kvlingua)
add_library(kvlingua::kvlingua ALIAS kvlingua_all)
foreach(layer IN LISTS library_layers)
  set_target_properties(kvlingua_${layer} PROPERTIES EXPORT_NAME ${layer})
endforeach()

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/kvlingua")
install(TARGETS ${library_targets} kvlingua_all EXPORT kvlinguaTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} ${CMAKE_INSTALL_INCLUDEDIR}/kvlingua/stages)
install(EXPORT kvlinguaTargets NAMESPACE kvlingua:: DESTINATION ${package_dir})
install(DIRECTORY include/kvlingua DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.def"
        PATTERN "cost" EXCLUDE PATTERN "preflight" EXCLUDE)
file(GLOB store_headers CONFIGURE_DEPENDS checkpoints/*.h)
install(FILES ${store_headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/kvlingua/stages/checkpoints)
configure_package_config_file(cmake/kvlinguaConfig.cmake.in "${CMAKE_BINARY_DIR}/kvlinguaConfig.cmake" INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file("${CMAKE_BINARY_DIR}/kvlinguaConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/kvlinguaConfig.cmake" "${CMAKE_BINARY_DIR}/kvlinguaConfigVersion.cmake" cmake/Torch.cmake
        DESTINATION ${package_dir})

# The program looks for ../lib/libkvlingua_main.so beside its own folder.
set_target_properties(kvlingua_main PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS kvlingua RUNTIME DESTINATION bin)
install(TARGETS kvlingua_main LIBRARY DESTINATION lib)
install(DIRECTORY recipe DESTINATION share/kvlingua FILES_MATCHING PATTERN "*.yaml" PATTERN "*.json")
install(DIRECTORY eval/probes DESTINATION share/kvlingua/eval FILES_MATCHING PATTERN "*.yaml")
install(DIRECTORY checkpoints/nano/source checkpoints/nano/target DESTINATION share/kvlingua/checkpoints/nano)
