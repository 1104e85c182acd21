// XLA's FFI targets, one for each plan and platform, and the functions by which the Python package finds them and asks, before a
// program is compiled, whether a problem can be served.
//
// A handler finds the problem that its text describes, with the plan that was chosen for it, and enqueues on XLA's stream. Scratch
// is one of XLA's own buffers, a result of the call: memory of XLA's scratch allocator is free again when a handler returns, which
// a command buffer that is replayed would not know.
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <xla/ffi/api/ffi.h>

#include "cutplan/tuning.hpp"
#include "problem.hpp"

namespace cutplan::jax {
namespace {

namespace ffi = xla::ffi;

/// Problems by their texts and devices, each with its plan. Chosen again when what is known of measured kernels has changed.
template <typename P>
std::shared_ptr<const Problem<P>> find(std::string_view text, Device device) {
  struct Kept {
    std::uint64_t generation;
    std::shared_ptr<const Problem<P>> problem;
  };
  using OfDevice = std::map<std::string, Kept, std::less<>>;
  constexpr std::size_t most = 1024;
  // Never destroyed: XLA's threads may still run when the process ends.
  static auto& mutex = *new std::shared_mutex;
  static auto& kept = *new std::map<std::pair<DeviceType, int>, OfDevice>;

  const std::uint64_t generation = tuning_generation();
  const std::pair where(device.type, device.id);
  {
    const std::shared_lock lock(mutex);
    if (const auto of_device = kept.find(where); of_device != kept.end()) {
      const auto found = of_device->second.find(text);
      if (found != of_device->second.end() && found->second.generation == generation) return found->second.problem;
    }
  }
  const auto fresh = std::make_shared<const Problem<P>>(text, device);
  const std::lock_guard lock(mutex);
  OfDevice& of_device = kept[where];
  if (of_device.size() >= most) of_device.clear();
  of_device[std::string(text)] = {generation, fresh};
  return fresh;
}

ffi::ErrorCode ffi_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::unsupported: return ffi::ErrorCode::kUnimplemented;
    case ErrorCode::workspace_too_small: return ffi::ErrorCode::kResourceExhausted;
    case ErrorCode::device_error: return ffi::ErrorCode::kInternal;
    default: return ffi::ErrorCode::kInvalidArgument;
  }
}

template <typename P>
ffi::Error call(Device device, Stream stream, std::string_view text, const ffi::RemainingArgs& arguments,
                const ffi::RemainingRets& results) {
  try {
    std::vector<Buffer> buffers;
    buffers.reserve(arguments.size() + results.size());
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const auto buffer = arguments.get<ffi::AnyBuffer>(i);
      if (buffer.has_error()) return buffer.error();
      buffers.push_back({buffer->untyped_data(), buffer->size_bytes()});
    }
    for (std::size_t i = 0; i < results.size(); ++i) {
      auto buffer = results.get<ffi::AnyBuffer>(i);
      if (buffer.has_error()) return buffer.error();
      buffers.push_back({(*buffer)->untyped_data(), (*buffer)->size_bytes()});
    }
    find<P>(text, device)->run(buffers, stream);
    return ffi::Error::Success();
  } catch (const Error& error) {
    return {ffi_code(error.code()), error.what()};
  } catch (const std::exception& error) {
    return ffi::Error::Internal(error.what());
  }
}

template <typename P>
XLA_FFI_Error* on_cpu(XLA_FFI_CallFrame* frame) {
  static auto* const handler = ffi::Ffi::Bind()
                                   .Attr<std::string_view>("problem")
                                   .RemainingArgs()
                                   .RemainingRets()
                                   .To([](std::string_view text, ffi::RemainingArgs arguments, ffi::RemainingRets results) {
                                     return call<P>({}, nullptr, text, arguments, results);
                                   })
                                   .release();
  return handler->Call(frame);
}

template <typename P>
XLA_FFI_Error* on_cuda(XLA_FFI_CallFrame* frame) {
  static auto* const handler = ffi::Ffi::Bind()
                                   .Ctx<ffi::PlatformStream<Stream>>()
                                   .Ctx<ffi::DeviceOrdinal>()
                                   .Attr<std::string_view>("problem")
                                   .RemainingArgs()
                                   .RemainingRets()
                                   .To(
                                       [](Stream stream, std::int32_t device, std::string_view text,
                                          ffi::RemainingArgs arguments, ffi::RemainingRets results) {
                                         return call<P>({DeviceType::cuda, device}, stream, text, arguments, results);
                                       },
                                       {ffi::Traits::kCmdBufferCompatible})
                                   .release();
  return handler->Call(frame);
}

struct Target {
  const char* name;
  XLA_FFI_Handler *cpu, *cuda;
  std::size_t (*workspace)(std::string_view, Device);
};

template <typename P>
constexpr Target target() {
  return {Face<P>::name, &on_cpu<P>, &on_cuda<P>,
          [](std::string_view text, Device device) { return find<P>(text, device)->plan().workspace_size(); }};
}

constexpr Target targets[] = {
    target<GemmPlan>(),        target<GroupedGemmPlan>(),   target<FmhaPlan>(),  target<FmhaBackwardPlan>(),
    target<RopePlan>(),        target<RopeBackwardPlan>(),  target<AlibiPlan>(), target<AlibiBackwardPlan>(),
    target<MergeStatesPlan>(), target<KvCacheAppendPlan>(),
};

}  // namespace
}  // namespace cutplan::jax

extern "C" {

/// The name of target `index` and its handlers; null beyond the last.
CUTPLAN_API const char* cutplan_jax_target(int index, XLA_FFI_Handler** cpu, XLA_FFI_Handler** cuda) {
  using cutplan::jax::targets;
  if (index < 0 || index >= static_cast<int>(std::size(targets))) return nullptr;
  *cpu = targets[index].cpu;
  *cuda = targets[index].cuda;
  return targets[index].name;
}

/// Scratch that a problem needs on a device (-1: the host), in bytes. Where it cannot be served: -1 and, in `said`, why. `code`
/// is an ErrorCode, or -1 for what is no error of cutplan's.
CUTPLAN_API long long cutplan_jax_workspace(int index, const char* problem, int device, int* code, char* said,
                                            std::size_t capacity) {
  using namespace cutplan;
  const auto say = [&](int cause, const char* text) {
    *code = cause;
    std::strncpy(said, text, capacity - 1);
    said[capacity - 1] = 0;
    return -1;
  };
  try {
    const Device where = device < 0 ? Device{} : Device{DeviceType::cuda, device};
    return static_cast<long long>(jax::targets[index].workspace(problem, where));
  } catch (const Error& error) {
    return say(static_cast<int>(error.code()), error.what());
  } catch (const std::exception& error) {
    return say(-1, error.what());
  }
}

}  // extern "C"
