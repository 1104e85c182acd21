# The CUDA compiler and runtime: CUTPLAN_CUDA=registry takes the pinned ones, CUTPLAN_CUDA=system whatever CMake finds
# (CMAKE_CUDA_COMPILER, CUDACXX or nvcc on the PATH; 12.8 or newer). An included file rather than a function, because
# languages are enabled at the top level only.
if(CUTPLAN_CUDA STREQUAL "registry")
  include(${CMAKE_CURRENT_LIST_DIR}/fetch.cmake)
  cutplan_fetch(cuda)
  set(cuda_root ${cutplan_cuda_dir}/nvidia/cu13)
  # Two names that the wheels do not have: nvcc looks for libraries in lib64, and CMake wants a libcudart.so to be there
  # before it offers the static one.
  file(CREATE_LINK lib ${cuda_root}/lib64 SYMBOLIC)
  file(GLOB cudart RELATIVE ${cuda_root}/lib ${cuda_root}/lib/libcudart.so.*)
  file(CREATE_LINK ${cudart} ${cuda_root}/lib/libcudart.so SYMBOLIC)
  set(CMAKE_CUDA_COMPILER ${cuda_root}/bin/nvcc)
  set(CUDAToolkit_ROOT ${cuda_root})
  file(GLOB license ${cutplan_cuda_dir}/nvidia_cuda_runtime-*.dist-info/licenses/License.txt)
  install(FILES ${license} DESTINATION ${license_dir} RENAME CUDA.txt COMPONENT cutplan)
elseif(NOT CUTPLAN_CUDA STREQUAL "system")
  message(FATAL_ERROR "cutplan: CUTPLAN_CUDA is registry or system, not '${CUTPLAN_CUDA}'")
endif()

set(CMAKE_CUDA_ARCHITECTURES OFF)  # every unit names its own, see cpp/src/CMakeLists.txt
if(NOT CMAKE_CUDA_HOST_COMPILER)
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
endif()
enable_language(CUDA)
find_package(CUDAToolkit 12.8 REQUIRED)
