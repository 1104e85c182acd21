# XLA's FFI headers as the target cutplan_xla_ffi: of the archive that a source distribution carries, else of jaxlib's wheel, of
# which nothing else is unpacked. Their licence is the text of cutplan's own LICENSE, and they have no notice to pass on.
include(${CMAKE_CURRENT_LIST_DIR}/fetch.cmake)
set(include_dir jaxlib/include)
set(carried ${CMAKE_CURRENT_LIST_DIR}/xla_ffi.zip)
if(EXISTS ${carried})
  set(cutplan_xla_ffi_dir ${PROJECT_BINARY_DIR}/third_party/xla_ffi)
  file(ARCHIVE_EXTRACT INPUT ${carried} DESTINATION ${cutplan_xla_ffi_dir})
else()
  set(cutplan_xla_ffi_files ${include_dir}/xla/ffi/api/*.h)
  cutplan_fetch(xla_ffi --python-version 3.12 --platform manylinux_2_27_x86_64)  # as `make sdist` does
endif()

foreach(pin
        api.h=7f76572a80ed2097e5924e6d02d84891c725300172280bd009c0a7c9ac7961eb
        c_api.h=85fc385c2d3a6b539a05b9cf4c3535aa24b4b41040f9e111c1f2c11b0e2fa539
        ffi.h=4e4a1d8f9825e88e15a2bcbb7c08eb6233f020b952cab5bbbb8510e3017515c5)
  string(REPLACE "=" ";" pin ${pin})
  list(GET pin 0 header)
  file(SHA256 ${cutplan_xla_ffi_dir}/${include_dir}/xla/ffi/api/${header} digest)
  if(NOT digest IN_LIST pin)
    message(FATAL_ERROR "cutplan: xla/ffi/api/${header} is not the one that third_party/xla_ffi.cmake pins")
  endif()
endforeach()

add_library(cutplan_xla_ffi INTERFACE)
target_include_directories(cutplan_xla_ffi SYSTEM INTERFACE ${cutplan_xla_ffi_dir}/${include_dir})
