// One way to launch a kernel, for every family: checked, and with the attributes that some ask for.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/cuda.hpp"
#include "cutplan/tensor.hpp"

namespace cutplan {

struct LaunchShape {
  std::int64_t blocks;
  int threads;                    // of a block
  std::size_t shared_memory = 0;  // dynamic, bytes of a block
  int cluster = 1;                // blocks of one
  bool overlaps = false;          // starts under the end of the kernel in front of it, which lets it in (griddepcontrol)
};

/// Does nothing where there are no blocks. `what` stands in front of the error.
template <typename... Parameters, typename... Arguments>
void launch_kernel(const char* what, Stream stream, const LaunchShape& shape, void (*kernel)(Parameters...),
                   const Arguments&... arguments) {
  if (shape.blocks == 0) return;
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = shape.shared_memory;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = attributes;
  if (shape.cluster > 1) {
    cudaLaunchAttribute& cluster = attributes[config.numAttrs++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = static_cast<unsigned>(shape.cluster);
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  }
  if (shape.overlaps) {
    cudaLaunchAttribute& early = attributes[config.numAttrs++];
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
  }
  check_cuda(cudaLaunchKernelEx(&config, kernel, arguments...), what);
}

}  // namespace cutplan
