// SPDX-License-Identifier: Apache-2.0
#include "kernels/per_isa/winograd_transforms.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {

void winograd_output_transform(const WinogradOutputTile<float>& tile) { sums_to_pixels(tile); }

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
