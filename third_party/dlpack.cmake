# DLPack's header as the target cutplan_dlpack. Only the Python module links it. Its licence is the text of cutplan's own
# LICENSE, and it has no notice to pass on: nothing is installed here.
include(${CMAKE_CURRENT_LIST_DIR}/fetch.cmake)
cutplan_fetch(dlpack --python-version 3.12 --platform manylinux_2_28_x86_64)  # as `make sdist` does

add_library(cutplan_dlpack INTERFACE)
target_include_directories(cutplan_dlpack SYSTEM INTERFACE ${cutplan_dlpack_dir}/tvm_ffi/3rdparty/dlpack/include)
