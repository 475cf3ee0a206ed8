/* Run a native export without MXNet: NAME-symbol.json, NAME-0000.params, a file of float32, and the
 * size of its images. Prints one output a line. Compile it with NAME-native.so; docs/serving.md
 * shows how. */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/gluondense.h"

static void *check(void *result) {
    if (!result) {
        fprintf(stderr, "error: %s\n", gluondense_error());
        exit(1);
    }
    return result;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: classify_native NAME INPUT CHANNELS HEIGHT WIDTH\n");
        return 2;
    }
    const int channels = atoi(argv[3]), height = atoi(argv[4]), width = atoi(argv[5]);
    FILE *file = fopen(argv[2], "rb");
    if (!file) {
        perror(argv[2]);
        return 1;
    }
    fseek(file, 0, SEEK_END);
    const size_t size = (size_t)ftell(file), image = sizeof(float) * channels * height * width;
    const int count = (int)(size / image);
    rewind(file);
    float *images = malloc(size);
    if (!images || fread(images, 1, size, file) != size) return 1;
    fclose(file);

    gluondense_network *network = check(gluondense_load(argv[1]));
    size_t shape[3], numbers = (size_t)count;
    const int dimensions = gluondense_output_shape(network, 0, channels, height, width, shape);
    check(dimensions < 0 ? NULL : network);
    for (int i = 0; i < dimensions; i++) numbers *= shape[i];

    float *output = malloc(numbers * sizeof(float));
    if (!output || gluondense_outputs(network) != 1) return 1;
    const int failed = gluondense_run(network, images, count, channels, height, width, &output);
    check(failed ? NULL : network);
    for (size_t i = 0; i < numbers; i++) printf("%.9g\n", output[i]);

    free(output);
    free(images);
    gluondense_free(network);
    return 0;
}
