// Causal attention on a GPU, in a CUDA graph: the plan and its scratch are made once, run() only enqueues. The result is held
// against the host backend's.
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

#include "cutplan/cutplan.hpp"

namespace {

using cutplan::DType;
using cutplan::TensorView;

constexpr std::int64_t batch = 2, heads = 8, keys = 512, dim = 64;
constexpr std::size_t elements = batch * heads * keys * dim;

void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

struct Free {
  void operator()(void* memory) const { cudaFree(memory); }
};

std::unique_ptr<void, Free> allocate(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes > 0 ? bytes : 1));
  return std::unique_ptr<void, Free>(memory);
}

/// q, k, v and o one after the other, each [batch, heads, keys, dim].
cutplan::FmhaArguments arguments(float* memory, cutplan::Device device) {
  const auto next = [&](std::size_t i) {
    return TensorView::row_major(memory + i * elements, DType::f32, {batch, heads, keys, dim}, device);
  };
  cutplan::FmhaArguments all;
  all.q = next(0);
  all.k = next(1);
  all.v = next(2);
  all.o = next(3);
  return all;
}

void attend_on_gpu(std::vector<float>& host) {
  const cutplan::Device device{cutplan::DeviceType::cuda, 0};
  check(cudaSetDevice(device.id));
  const std::size_t bytes = host.size() * sizeof(float);
  const auto memory = allocate(bytes);
  check(cudaMemcpy(memory.get(), host.data(), bytes, cudaMemcpyHostToDevice));
  const cutplan::FmhaArguments all = arguments(static_cast<float*>(memory.get()), device);

  cutplan::FmhaDescriptor causal;
  causal.causal = cutplan::Causal::bottom_right;
  const auto plan = cutplan::FmhaPlan::select(describe(all, causal), device);
  std::printf("%s: kernel %s, %zu bytes of scratch\n", cutplan::device_properties(device).name.c_str(),
              plan.sku().name.c_str(), plan.workspace_size());
  const auto scratch = allocate(plan.workspace_size());

  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check(cudaStreamCreate(&stream));
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  plan.run(all, stream, {scratch.get(), plan.workspace_size()});
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&executable, graph, 0));
  for (int step = 0; step < 10; ++step) check(cudaGraphLaunch(executable, stream));
  check(cudaStreamSynchronize(stream));
  check(cudaMemcpy(host.data(), memory.get(), bytes, cudaMemcpyDeviceToHost));
  check(cudaGraphExecDestroy(executable));
  check(cudaGraphDestroy(graph));
  check(cudaStreamDestroy(stream));
}

void attend_on_host(std::vector<float>& host) {
  const cutplan::FmhaArguments all = arguments(host.data(), cutplan::Device{});
  cutplan::FmhaDescriptor causal;
  causal.causal = cutplan::Causal::bottom_right;
  const auto plan = cutplan::FmhaPlan::select(describe(all, causal), cutplan::Device{});
  std::vector<char> scratch(plan.workspace_size() + cutplan::workspace_alignment);
  void* aligned = scratch.data();
  std::size_t space = scratch.size();
  std::align(cutplan::workspace_alignment, plan.workspace_size(), aligned, space);
  plan.run(all, nullptr, {aligned, space});
}

}  // namespace

int main() try {
  if (cutplan::cuda_device_count() == 0) {
    std::printf("nothing is computed: %s\n", cutplan::cuda_unavailable_reason().c_str());
    return 0;
  }
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> on_gpu(4 * elements);
  for (std::size_t i = 0; i < 3 * elements; ++i) on_gpu[i] = normal(random);
  std::vector<float> on_host = on_gpu;
  attend_on_gpu(on_gpu);
  attend_on_host(on_host);
  float worst = 0;
  for (std::size_t i = 3 * elements; i < on_gpu.size(); ++i) {
    const float difference = std::abs(on_gpu[i] - on_host[i]);
    if (!(difference <= worst)) worst = difference;  // also a NaN
  }
  std::printf("GPU and host differ by at most %.1e\n", worst);
  return worst < 1e-4f ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
