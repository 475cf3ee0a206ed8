#include "kernels/per_isa/simd.h"

namespace gluondense {
namespace GLUONDENSE_ISA_NAMESPACE {

void conv_f32(const ConvTile<float>& tile);
void conv_u8s8(const ConvTile<std::uint8_t>& tile);
void conv_bf16(const ConvTile<float>& tile);
void affine_f32(const float* src, const float* scale, const float* shift, float negative_slope,
                float* dst, int channels);
void affine_relu_bf16(const float* src, const float* scale, const float* shift, float* dst,
                      int channels);
void bn_relu_u8(const std::uint8_t* src, const std::uint8_t* xor_mask,
                const std::uint8_t* zero_point, std::uint8_t* dst, int channels);
void quantize_u8(const float* src, float scale, float shift, std::uint8_t* dst, int count);
void pool_f32(const float* const* pixels, int count, bool is_max, float factor, float* dst,
              int channels);
void pool_u8(const std::uint8_t* const* pixels, int count, bool is_max, std::uint8_t* dst,
             int channels);
void winograd_input_transform(const float* src, std::ptrdiff_t row_stride,
                              std::ptrdiff_t pixel_stride, float* planes,
                              std::ptrdiff_t plane_stride, int channels);
void winograd_output_transform(const WinogradOutputTile& tile);
void grouped_conv3x3_f32(const GroupedConvTile& tile);

#if defined(__AVX512F__)
constexpr auto kGroupedConv = grouped_conv3x3_f32;
#else
constexpr decltype(&grouped_conv3x3_f32) kGroupedConv = nullptr;
#endif

#if defined(__AVX512BF16__)
constexpr auto kConvBf16 = conv_bf16;
constexpr auto kAffineReluBf16 = affine_relu_bf16;
#else
constexpr decltype(&conv_bf16) kConvBf16 = nullptr;
constexpr decltype(&affine_relu_bf16) kAffineReluBf16 = nullptr;
#endif

extern const InferenceKernels inference_table;
const InferenceKernels inference_table = {GLUONDENSE_ISA_NAME,
                                          kMaxTilePixels,
                                          conv_f32,
                                          conv_u8s8,
                                          kConvBf16,
                                          affine_f32,
                                          kAffineReluBf16,
                                          bn_relu_u8,
                                          quantize_u8,
                                          pool_f32,
                                          pool_u8,
                                          winograd_input_transform,
                                          winograd_output_transform,
                                          kGroupedConv};

}  // namespace GLUONDENSE_ISA_NAMESPACE
}  // namespace gluondense
