// Everything cutplan offers to C++.
#pragma once

#include "cutplan/attention_ops.hpp"
#include "cutplan/device.hpp"
#include "cutplan/dtype.hpp"
#include "cutplan/error.hpp"
#include "cutplan/event.hpp"
#include "cutplan/fmha.hpp"
#include "cutplan/gemm.hpp"
#include "cutplan/grouped_gemm.hpp"
#include "cutplan/plan.hpp"
#include "cutplan/quantize.hpp"
#include "cutplan/tensor.hpp"
#include "cutplan/tuning.hpp"
#include "cutplan/version.hpp"
#include "cutplan/weights.hpp"
