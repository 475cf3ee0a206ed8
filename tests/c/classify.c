/* Classify pixels with MXNet's C predict API: PREFIX-symbol.json, PREFIX-0000.params, a file of
 * float32, and the shape of the input. Prints one output a line. */
#include <stdbool.h> /* MXNet's header needs these two in front of it */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <mxnet/c_api.h>
#include <mxnet/c_predict_api.h>

static char *read_all(const char *prefix, const char *suffix, size_t *size) {
    char path[4096];
    snprintf(path, sizeof path, "%s%s", prefix, suffix);
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size + 1);
    if (!bytes || fread(bytes, 1, *size, file) != *size) exit(1);
    bytes[*size] = 0;
    fclose(file);
    return bytes;
}

static void check(int failed) {
    if (failed) {
        fprintf(stderr, "%s\n", MXGetLastError());
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: classify PREFIX INPUT DIMENSION ...\n");
        return 2;
    }
    size_t graph_size, params_size, input_size;
    char *graph = read_all(argv[1], "-symbol.json", &graph_size);
    char *params = read_all(argv[1], "-0000.params", &params_size);
    char *input = read_all(argv[2], "", &input_size);

    mx_uint shape[8], dimensions[2] = {0, (mx_uint)argc - 3};
    for (int i = 3; i < argc && i < 11; i++) shape[i - 3] = (mx_uint)atoi(argv[i]);
    const char *names[] = {"data"};
    PredictorHandle predictor;
    check(MXPredCreate(graph, params, (int)params_size, 1, 0, 1, names, dimensions, shape,
                       &predictor));
    check(MXPredSetInput(predictor, "data", (const mx_float *)input,
                         (mx_uint)(input_size / sizeof(mx_float))));
    check(MXPredForward(predictor));

    mx_uint *out_shape, out_dimensions, count = 1;
    check(MXPredGetOutputShape(predictor, 0, &out_shape, &out_dimensions));
    for (mx_uint i = 0; i < out_dimensions; i++) count *= out_shape[i];
    mx_float *outputs = malloc(count * sizeof(mx_float));
    check(MXPredGetOutput(predictor, 0, outputs, count));
    for (mx_uint i = 0; i < count; i++) printf("%.9g\n", outputs[i]);
    check(MXPredFree(predictor));
    /* MXNet frees arrays in its threads. They must be done before the process destroys what they
     * use, else it may crash or hang at its exit. */
    check(MXNDArrayWaitAll());
    return MXNotifyShutdown();
}
