# CUTLASS headers as the target cutplan_cutlass. Only kernel units may link it.
include(${CMAKE_CURRENT_LIST_DIR}/fetch.cmake)
cutplan_fetch(cutlass)

add_library(cutplan_cutlass INTERFACE)
target_include_directories(cutplan_cutlass SYSTEM INTERFACE ${cutplan_cutlass_dir}/cutlass_library/source/include)
file(GLOB license ${cutplan_cutlass_dir}/nvidia_cutlass-*.dist-info/licenses/LICENSE.txt)
install(FILES ${license} DESTINATION ${license_dir} RENAME CUTLASS.txt COMPONENT cutplan)
