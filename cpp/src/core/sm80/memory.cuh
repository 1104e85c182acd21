// How data moves between global memory, shared memory and registers from Ampere on: cp.async, ldmatrix, and loads and stores
// that are one instruction. Addresses of shared memory are 32-bit.
#pragma once

#include <cstdint>

namespace cutplan::sm80 {

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// ---- cp.async ----

/// Starts a copy of 16 bytes, past L1, or of 4 or 8, through it. kPrefetch: L2 fetches 128 bytes for it.
template <int kBytes = 16, bool kPrefetch = true, typename T>
__device__ __forceinline__ void cp_async(std::uint32_t to, const T* from) {
  if constexpr (!kPrefetch) {
    static_assert(kBytes == 16);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
  } else if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(kBytes) : "memory");
  }
}

/// The same where L2 is told what to do with the bytes afterwards.
template <typename T>
__device__ __forceinline__ void cp_async(std::uint32_t to, const T* from, std::uint64_t policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "l"(policy)
               : "memory");
}

/// What is read once is the first to leave L2 again.
__device__ __forceinline__ std::uint64_t evict_first_policy() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

/// Of kBytes the first `bytes` are copied, and the others become zero.
template <int kBytes = 16, bool kPrefetch = true, typename T>
__device__ __forceinline__ void cp_async_zfill(std::uint32_t to, const T* from, int bytes) {
  if constexpr (kPrefetch) {
    static_assert(kBytes == 16);
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
  } else if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(kBytes), "r"(bytes) : "memory");
  }
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;"); }

/// Until all but the last kPending groups of this thread's copies have arrived.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// ---- ldmatrix: four 8 x 8 matrices of 16-bit elements, whose rows lanes point to ----

__device__ __forceinline__ void ldmatrix(std::uint32_t address, std::uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

__device__ __forceinline__ void ldmatrix_transposed(std::uint32_t address, std::uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// ---- Shared memory ----

__device__ __forceinline__ void load_shared(std::uint32_t from, std::uint32_t (&to)[4]) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(from));
}

__device__ __forceinline__ void load_shared(std::uint32_t from, float (&to)[4]) {
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3]) : "r"(from));
}

__device__ __forceinline__ void load_shared(std::uint32_t from, std::uint32_t& to) {
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(to) : "r"(from));
}

__device__ __forceinline__ void load_shared(std::uint32_t from, float& to) {
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(to) : "r"(from));
}

__device__ __forceinline__ void load_shared(std::uint32_t from, double& to) {
  asm volatile("ld.shared.f64 %0, [%1];" : "=d"(to) : "r"(from));
}

__device__ __forceinline__ void store_shared(std::uint32_t to, const std::uint32_t (&x)[4]) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]) : "memory");
}

__device__ __forceinline__ void store_shared(std::uint32_t to, std::uint32_t x) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(x) : "memory");
}

// ---- Global memory ----

/// One 16-byte store. (Left to the compiler, a store of selected words becomes four predicated stores of a word.)
__device__ __forceinline__ void store_16_bytes(void* to, const std::uint32_t (&word)[4]) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(word[0]), "r"(word[1]), "r"(word[2]), "r"(word[3])
               : "memory");
}

/// What other blocks have released before they set the flag is visible after it has been read.
__device__ __forceinline__ std::uint32_t load_acquire(const std::uint32_t* flag) {
  std::uint32_t x;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(flag) : "memory");
  return x;
}

__device__ __forceinline__ void store_release(std::uint32_t* flag, std::uint32_t x) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(x) : "memory");
}

/// Adds without reading back.
__device__ __forceinline__ void reduce_add(float* to, float x) {
  asm volatile("red.global.add.f32 [%0], %1;" ::"l"(to), "f"(x) : "memory");
}

}  // namespace cutplan::sm80
