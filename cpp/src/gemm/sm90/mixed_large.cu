// Gradients by weights or inputs, in the tiles of one type; few rows take these, too.
#include "gemm/sm90/8bit_large.cu"
