// SPDX-License-Identifier: Apache-2.0
// Convolution algorithms that are measured on this machine.
#pragma once

#include <vector>

#include "inference/inference_worker.h"

namespace gluondense {

// Replaces the algorithms of a program's convolutions by those that are faster here. They are read
// from a file of the cache folder, $MXNET_HOME/native or ~/.mxnet/native, or measured and written
// there; so all processes of a machine compute the same bits. `context` has the default algorithms,
// of images of this size, and no packed filters.
//
// The defaults stay where no file can be read or written, for other sizes of images than the first,
// and with GLUONDENSE_TUNE=0.
void tune_algorithms(const RunContext& context, int channels, int height, int width,
                     std::vector<PreparedConv>* convs);

}  // namespace gluondense
