// The same products on every GPU: memory and streams from the CUDA runtime's plain C interface, kernels from cutplan.
#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>
#include <tuple>

#include "problem.hpp"

namespace consumer {
namespace {

void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) : size_(size) { check(cudaMalloc(reinterpret_cast<void**>(&data_), bytes())); }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    check(cudaMemcpy(data_, host.data(), bytes(), cudaMemcpyHostToDevice));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  T* data() const { return data_; }
  std::size_t bytes() const { return size_ * sizeof(T); }
  std::vector<T> to_host() const {
    std::vector<T> host(size_);
    check(cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  std::size_t size_;
  T* data_ = nullptr;
};

template <class T>
bool multiply(std::int64_t m, std::int64_t n, std::int64_t k, std::uint64_t seed, cutplan::Device device,
              const cutplan::PlanPreference& preference) {
  const Problem<T> problem(m, n, k, seed);
  const cutplan::GemmPlan plan = cutplan::GemmPlan::select(problem.descriptor(), device, preference);
  const DeviceArray<T> a(problem.a), b(problem.b), bias(problem.bias), d(static_cast<std::size_t>(m * n));
  const DeviceArray<unsigned char> scratch(plan.workspace_size() + 1);
  check(cudaMemset(d.data(), 0xff, d.bytes()));  // every element a NaN
  cudaStream_t stream;
  check(cudaStreamCreate(&stream));
  check(cudaDeviceSynchronize());
  plan.run(problem.arguments(a.data(), b.data(), bias.data(), d.data(), device), stream,
           {scratch.data(), plan.workspace_size()});
  check(cudaStreamSynchronize(stream));
  check(cudaStreamDestroy(stream));
  return report(problem, plan, d.to_host());
}

}  // namespace

int check_gpu(std::uint64_t seed) {
  int failures = 0;
  for (int id = 0; id < cutplan::cuda_device_count(); ++id) {
    check(cudaSetDevice(id));
    const cutplan::Device device{cutplan::DeviceType::cuda, id};
    std::printf("GPU %d: %s\n", id, cutplan::device_properties(device).name.c_str());
    for (const auto& [m, n, k] : {std::tuple(1, 1, 1), std::tuple(256, 512, 384), std::tuple(129, 131, 257)}) {
      failures += !multiply<BFloat16>(m, n, k, seed, device, {});
    }
    // sm80 kernels serve every GPU from compute capability 8.0 on, where they are built in.
    if (std::string(cutplan::built_architectures()).find("sm80") != std::string::npos) {
      cutplan::PlanPreference sm80;
      sm80.arch = cutplan::Arch::sm80;
      failures += !multiply<BFloat16>(200, 300, 400, seed, device, sm80);
    }
  }
  return failures;
}

}  // namespace consumer
