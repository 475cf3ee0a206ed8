// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "kernels/per_isa/amx.h"
#include "kernels/per_isa/winograd_transforms.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {

// Declares a kernel of another file of this folder, with its type in the table.
#define KERNEL(name) std::remove_pointer_t<decltype(InferenceKernels::name)> name

KERNEL(conv_f32);
KERNEL(conv_u8s8);
KERNEL(affine_f32);
KERNEL(sigmoid_gate_f32);
KERNEL(gelu_f32);
KERNEL(layer_norm_f32);
KERNEL(bn_relu_u8);
KERNEL(quantize_u8);
KERNEL(quantize_channels_u8);
KERNEL(dequantize_u8);
KERNEL(pool_f32);
KERNEL(pool_u8);
KERNEL(winograd_output_transform);
KERNEL(depthwise_conv_f32);
#if defined(__AVX512F__)
KERNEL(grouped_conv3x3_f32);
#else
constexpr std::nullptr_t grouped_conv3x3_f32 = nullptr;
#endif
#if defined(__AVX512BF16__)
extern const Bf16Kernels bf16_table;
#endif
#if defined(__AMX_TILE__)
constexpr int kMaxU8Pixels = kAmxMaxRows;
#else
constexpr int kMaxU8Pixels = kMaxTilePixels;
constexpr std::nullptr_t reset_amx_tiles = nullptr;
#endif

extern const InferenceKernels inference_table;
const InferenceKernels inference_table = {GLUONDENSE_ISA_NAME,
                                          kMaxTilePixels,
                                          kMaxU8Pixels,
                                          reset_amx_tiles,
                                          conv_f32,
                                          conv_u8s8,
                                          affine_f32,
                                          sigmoid_gate_f32,
                                          gelu_f32,
                                          layer_norm_f32,
                                          bn_relu_u8,
                                          quantize_u8,
                                          quantize_channels_u8,
                                          dequantize_u8,
                                          pool_f32,
                                          pool_u8,
                                          pixels_to_planes<InputTransform, float>,
                                          winograd_output_transform,
                                          depthwise_conv_f32,
                                          grouped_conv3x3_f32,
#if defined(__AVX512BF16__)
                                          &bf16_table};
#else
                                          nullptr};
#endif

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
