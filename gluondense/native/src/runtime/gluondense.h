/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs exports of the targets native, native_bf16 and native_int8 without MXNet: C99 and C++.
 * Every such export has the library that implements it, NAME-native.so.
 *
 * The images are the network's input, normalized: where the export was made with preprocessing in
 * the graph or with probabilities as its output, these are left to the caller. NAME.json has the
 * mean, the standard deviation and the names of the classes.
 *
 * Checksums are not verified. A damaged file is refused or gives other outputs; it does not corrupt
 * memory. A network runs in one thread at a time, and uses OMP_NUM_THREADS threads
 * itself, by default one for each processor.
 *
 * The first run on a machine measures algorithms of convolutions for some 0.2 s and writes the
 * fastest to a file in $MXNET_HOME/native or ~/.mxnet/native, which all later runs read. With
 * GLUONDENSE_TUNE=0, and where no file can be written, default algorithms are used.
 */
#ifndef GLUONDENSE_H_
#define GLUONDENSE_H_

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GLUONDENSE_API __attribute__((visibility("default")))

typedef struct gluondense_network gluondense_network;

/* Loads NAME-symbol.json and NAME-0000.params; NULL if that fails. */
GLUONDENSE_API gluondense_network* gluondense_load(const char* name);

/* NULL is allowed. */
GLUONDENSE_API void gluondense_free(gluondense_network* network);

/* The number of outputs. */
GLUONDENSE_API int gluondense_outputs(const gluondense_network* network);

/* Writes the shape of an output behind the number of images, such as 1000 or C, H, W, for images of
 * this size. Returns the number of its dimensions, 1 or 3; -1 if that fails. */
GLUONDENSE_API int gluondense_output_shape(const gluondense_network* network, int output,
                                           int channels, int height, int width, size_t shape[3]);

/* Computes the outputs of images (count, channels, height, width). Returns 0, or -1 if it fails. */
GLUONDENSE_API int gluondense_run(gluondense_network* network, const float* images, int count,
                                  int channels, int height, int width, float* const* outputs);

/* The reason why this thread's last call failed, in one line. */
GLUONDENSE_API const char* gluondense_error(void);

#ifdef __cplusplus
}
#endif

#endif /* GLUONDENSE_H_ */
