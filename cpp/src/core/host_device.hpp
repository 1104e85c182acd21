// Functions that host backends and kernels share.
#pragma once

#ifdef __CUDACC__
#define CUTPLAN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define CUTPLAN_HOST_DEVICE inline
#endif
