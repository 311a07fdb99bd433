/* Explain one input with Grad-CAM and print where the evidence lies.
 *
 *     cc gradcam.c $(pkg-config --cflags --libs xai) -o gradcam
 *     ./gradcam model.onnx input.f32 [LABEL]
 *
 * input.f32 holds float32 numbers, channels x height x width, in the range that the model was
 * trained on:
 *     python3 -c "import numpy; numpy.load('image.npy').astype('float32').tofile('input.f32')" */
#include <stdio.h>
#include <stdlib.h>
#include <xai/xai.h>

#define TRY(call)                                                   \
    if ((call) != XAI_OK) {                                         \
        fprintf(stderr, "gradcam: %s\n", xai_error_message(error)); \
        return EXIT_FAILURE;                                        \
    }

int main(int argc, char **argv)
{
    xai_error *error = NULL;
    xai_model *model = NULL;
    xai_explainer *explainer = NULL;
    xai_explanation *explanation = NULL;
    xai_tensor *input = NULL;
    xai_target *target = NULL;
    int64_t dims[4] = {1, 0, 0, 0}; /* (1, channels, height, width) */
    if (argc < 3) {
        fprintf(stderr, "usage: gradcam MODEL.onnx INPUT.f32 [LABEL]\n");
        return 2;
    }
    TRY(xai_model_open(argv[1], &model, &error))
    dims[1] = xai_model_input_channels(model);
    if (dims[1] == 0 || !xai_model_input_size(model, &dims[2], &dims[3])) {
        fprintf(stderr, "gradcam: %s does not say the size of its images\n", argv[1]);
        return EXIT_FAILURE;
    }
    TRY(xai_tensor_create(XAI_DTYPE_FLOAT32, 4, dims, NULL, &input, &error))
    FILE *file = fopen(argv[2], "rb");
    if (file == NULL || fread(xai_tensor_mutable_data(input), 1, xai_tensor_bytes(input), file) !=
                            xai_tensor_bytes(input)) {
        fprintf(stderr, "gradcam: %s does not hold %zu bytes\n", argv[2], xai_tensor_bytes(input));
        return EXIT_FAILURE;
    }
    fclose(file);
    TRY(xai_target_create(&target, &error)) /* the highest score, unless a label is given */
    if (argc > 3)
        TRY(xai_target_add_label(target, argv[3], &error))
    TRY(xai_explainer_create(model, "gradcam", NULL, &explainer, &error))
    TRY(xai_explainer_explain(explainer, input, target, &explanation, &error))

    const float *map =
        xai_tensor_data(xai_explanation_map(explanation)); /* (1, height, width), in [0, 1] */
    size_t peak = 0;
    for (size_t i = 0; i < (size_t)(dims[2] * dims[3]); i++)
        if (map[i] > map[peak])
            peak = i;
    printf("%s: score %.4f, ", xai_explanation_label(explanation, 0),
           xai_explanation_score(explanation, 0));
    if (map[peak] > 0)
        printf("strongest evidence at row %zu, column %zu\n", peak / (size_t)dims[3],
               peak % (size_t)dims[3]);
    else
        printf("no evidence for it\n");
    for (size_t i = 0; i < xai_explanation_warning_count(explanation); i++)
        printf("warning: %s\n", xai_explanation_warning(explanation, i));
    xai_explanation_free(explanation);
    xai_explainer_free(explainer);
    xai_target_free(target);
    xai_tensor_free(input);
    xai_model_free(model);
    return EXIT_SUCCESS;
}
