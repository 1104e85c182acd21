// The DLPack 1.x binary interface, as far as cutplan reads it: the layout of a tensor that another library hands over, and
// the table of C functions through which a Python type can do so without a capsule. Declared here because these few
// structures are an ABI, fixed by the standard, and a dependency for them would be larger than they are.
#pragma once

#include <cstdint>

namespace cutplan::dlpack {

struct Version {
  std::uint32_t major, minor;
};

/// Only a change of the major version changes a layout.
inline constexpr std::uint32_t major_version = 1;

enum DeviceCode : std::int32_t {
  device_cpu = 1,
  device_cuda = 2,
  device_cuda_host = 3,      // pinned host memory
  device_cuda_managed = 13,  // readable from host and device
};

enum TypeCode : std::uint8_t {
  type_int = 0,
  type_uint = 1,
  type_float = 2,
  type_opaque = 3,
  type_bfloat = 4,
  type_complex = 5,
  type_bool = 6,
  type_float8_e4m3fn = 10,
  type_float8_e5m2 = 12,
};

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Device {
  std::int32_t type;
  std::int32_t id;
};

/// Element [0, ..., 0] is at data + byte_offset. Null strides mean compact and row-major.
struct Tensor {
  void* data;
  Device device;
  std::int32_t rank;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements
  std::uint64_t byte_offset;
};

/// Before DLPack 1.0: no version and no flags.
struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

inline constexpr std::uint64_t flag_read_only = 1;
inline constexpr std::uint64_t flag_subbyte_padded = 4;  // elements below 8 bits fill a byte each

/// Since DLPack 1.0. With an unknown major version, only `deleter` may be touched.
struct VersionedManagedTensor {
  Version version;
  void* context;
  void (*deleter)(VersionedManagedTensor*);
  std::uint64_t flags;
  Tensor tensor;
};

/// What a type publishes as the capsule attribute `__dlpack_c_exchange_api__`. No function synchronises; those that return
/// int return 0, or -1 with a Python exception set.
struct ExchangeApi {
  Version version;
  ExchangeApi* previous;  // same table at an older major version, or null
  int (*allocate)(Tensor* prototype, VersionedManagedTensor** out, void* error_context,
                  void (*set_error)(void* error_context, const char* kind, const char* message));
  int (*export_managed)(void* py_object, VersionedManagedTensor** out);
  int (*import_managed)(VersionedManagedTensor* tensor, void** out_py_object);
  int (*export_borrowed)(void* py_object, Tensor* out);  // may be null; valid while the object is
  int (*current_stream)(std::int32_t device_type, std::int32_t device_id, void** out);
};

inline constexpr char exchange_attribute[] = "__dlpack_c_exchange_api__";
inline constexpr char exchange_capsule[] = "dlpack_exchange_api";
inline constexpr char capsule_name[] = "dltensor";
inline constexpr char used_capsule_name[] = "used_dltensor";
inline constexpr char versioned_capsule_name[] = "dltensor_versioned";
inline constexpr char used_versioned_capsule_name[] = "used_dltensor_versioned";

}  // namespace cutplan::dlpack
