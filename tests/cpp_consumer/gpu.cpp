// The same problems on every GPU: memory and streams from the CUDA runtime's plain C interface, kernels from cutplan.
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

/// On a stream of its own, with scratch of the size that the plan asks for.
template <class Plan, class Arguments>
void run(const Plan& plan, const Arguments& arguments) {
  const DeviceArray<unsigned char> scratch(plan.workspace_size() + 1);  // the runtime need not allocate 0 bytes
  cudaStream_t stream;
  check(cudaStreamCreate(&stream));
  check(cudaDeviceSynchronize());
  plan.run(arguments, stream, {scratch.data(), plan.workspace_size()});
  check(cudaStreamSynchronize(stream));
  check(cudaStreamDestroy(stream));
}

template <class T>
bool multiply(std::int64_t m, std::int64_t n, std::int64_t k, std::uint64_t seed, cutplan::Device device,
              const cutplan::PlanPreference& preference) {
  const Problem<T> problem(m, n, k, seed);
  const cutplan::GemmPlan plan = cutplan::GemmPlan::select(problem.descriptor(), device, preference);
  const DeviceArray<T> a(problem.a), b(problem.b), bias(problem.bias), d(static_cast<std::size_t>(m * n));
  check(cudaMemset(d.data(), 0xff, d.bytes()));  // every element a NaN
  run(plan, problem.arguments(a.data(), b.data(), bias.data(), d.data(), device));
  return report(problem, plan, d.to_host());
}

/// A grouped and a gated product.
template <class T>
bool consult(const std::vector<std::int32_t>& sizes, std::int64_t n, std::int64_t k, std::uint64_t seed,
             cutplan::Device device, const cutplan::PlanPreference& preference) {
  const Experts<T> experts(sizes, n, k, seed);
  const auto grouped = cutplan::GroupedGemmPlan::select(experts.grouped(), device, preference);
  const auto gated = cutplan::GemmPlan::select(experts.gated(), device, preference);
  const DeviceArray<T> a(experts.a), b(experts.b), b2(experts.b2), d(static_cast<std::size_t>(experts.m * n));
  const DeviceArray<std::int32_t> offsets(experts.offsets);
  check(cudaMemset(d.data(), 0xff, d.bytes()));
  run(grouped, experts.grouped(a.data(), b.data(), d.data(), offsets.data(), device));
  const bool kept = report(experts, grouped, d.to_host());
  check(cudaMemset(d.data(), 0xff, d.bytes()));
  run(gated, experts.gated(a.data(), b.data(), b2.data(), d.data(), device));
  return report(experts, gated, d.to_host()) && kept;
}

template <class T>
bool attend(std::int64_t seq_q, std::int64_t seq_k, std::int64_t dim, std::int64_t dim_v, std::uint64_t seed,
            cutplan::Device device, const cutplan::PlanPreference& preference) {
  Attention<T> problem(seq_q, seq_k, dim, dim_v, seed);
  const auto forward = cutplan::FmhaPlan::select(problem.descriptor().forward, device, preference);
  const auto backward = cutplan::FmhaBackwardPlan::select(problem.descriptor(), device, preference);
  const DeviceArray<T> memory(problem.memory);
  const DeviceArray<float> lse(problem.lse);
  const auto arguments = problem.arguments(memory.data(), lse.data(), device);
  run(forward, arguments);
  run(backward, arguments);
  problem.memory = memory.to_host();
  problem.lse = lse.to_host();
  return report(problem, forward, backward);
}

template <class T>
bool around(std::int64_t dim, std::uint64_t seed, cutplan::Device device) {
  Around<T> problem(dim, seed);
  const DeviceArray<T> memory(problem.memory);
  const DeviceArray<float> floats(problem.floats);
  const DeviceArray<std::int32_t> integers(problem.integers);
  const auto all = problem.arguments(memory.data(), floats.data(), integers.data(), device);
  const auto plans = problem.select(all, device);
  plans.run(all, [](const auto& plan, const auto& arguments) { run(plan, arguments); });
  problem.memory = memory.to_host();
  problem.floats = floats.to_host();
  problem.integers = integers.to_host();
  return report(problem, plans);
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
    failures += !consult<BFloat16>({0, 200, 200, 517}, 256, 512, seed, device, {});
    // sm80 kernels serve every GPU from compute capability 8.0 on, where they are built in.
    if (std::string(cutplan::built_architectures()).find("sm80") != std::string::npos) {
      cutplan::PlanPreference sm80;
      sm80.arch = cutplan::Arch::sm80;
      failures += !multiply<BFloat16>(200, 300, 400, seed, device, sm80);
      failures += !multiply<float>(200, 300, 400, seed, device, sm80);
      failures += !multiply<double>(200, 300, 400, seed, device, sm80);
      failures += !consult<BFloat16>({1, 130, 130, 301}, 264, 136, seed, device, sm80);
      for (const auto& [seq_q, seq_k, dim, dim_v] :
           {std::tuple(1, 300, 128, 128), std::tuple(150, 270, 64, 48), std::tuple(130, 70, 17, 96)}) {
        failures += !attend<BFloat16>(seq_q, seq_k, dim, dim_v, seed, device, sm80);
        failures += !attend<float>(seq_q, seq_k, dim, dim_v, seed, device, sm80);
      }
      for (const std::int64_t dim : {34, 128}) {
        failures += !around<BFloat16>(dim, seed, device);
        failures += !around<float>(dim, seed, device);
      }
    }
  }
  return failures;
}

}  // namespace consumer
