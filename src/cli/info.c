#include <stdio.h>
#include <string.h>

#include "cli.h"

static void print_value(const char *what, const char *name, int32_t dtype, int32_t rank,
                        const int64_t *dims, const char *row_axis)
{
    char text[DIMS_TEXT_SIZE];
    printf("%s '%s': %s %s\n", what, name, dtype ? xai_dtype_name(dtype) : "of unknown type",
           dims_text(rank, dims, row_axis, text));
}

static void print_numbers(const char *what, size_t count, const double *numbers)
{
    printf("  %s", what);
    for (size_t i = 0; i < count; i++)
        printf("%s %g", i ? "," : "", numbers[i]);
    putchar('\n');
}

static void print_card(const xai_model *model)
{
    const double *mean, *deviation;
    double low, high;
    int64_t height, width;
    const size_t means = xai_model_input_mean(model, &mean),
                 deviations = xai_model_input_std(model, &deviation);
    const size_t labels = xai_model_label_count(model);
    const char *meaning = xai_model_score_meaning(model);
    const int has_range = xai_model_input_range(model, &low, &high);
    if (!has_range && !means && !deviations && !labels && !*meaning) {
        puts("card: none; scores are numbered, and inputs must be tensors (docs/model-card.md)");
        return;
    }
    puts("card:");
    if (has_range)
        printf("  range from %g (black) to %g (white)\n", low, high);
    if (means)
        print_numbers("mean", means, mean);
    if (deviations)
        print_numbers("deviation", deviations, deviation);
    if (xai_model_input_size(model, &height, &width))
        printf("  size %lld x %lld (height x width)\n", (long long)height, (long long)width);
    if (*meaning)
        printf("  scores are %s\n", meaning);
    if (labels) {
        printf("  labels");
        for (size_t i = 0; i < labels; i++)
            printf("%s %zu %s", i ? "," : "", i, xai_model_label(model, i));
        putchar('\n');
    }
}

static void print_layers(const xai_model *model, bool all)
{
    const size_t layers = xai_model_layer_count(model);
    const int64_t chosen = xai_model_default_layer(model);
    printf("layers: %zu", layers);
    if (chosen >= 0)
        printf(", by default %lld '%s' (%s)", (long long)chosen,
               xai_model_layer_name(model, (size_t)chosen),
               xai_model_layer_operator(model, (size_t)chosen));
    putchar('\n');
    for (size_t i = 0; all && i < layers; i++)
        printf("  %4zu  %-12s %s\n", i, xai_model_layer_operator(model, i),
               xai_model_layer_name(model, i));
}

int command_info(int count, char **arguments)
{
    bool layers = false;
    const option options[] = {{OPTION_FLAG, "--layers", 0, &layers}};
    const char *path = NULL;
    size_t positional;
    const int code = arguments_parse("info", count, arguments, options, 1, &path, 1, &positional);
    if (code != EXIT_OK)
        return code;
    if (positional != 1)
        return report_usage("info", "no model given");

    xai_model *model = NULL;
    xai_error *error = NULL;
    if (xai_model_open(path, &model, &error) != XAI_OK)
        return report_error(NULL, error);
    printf("%s: ONNX, IR %lld, opset %lld", path, (long long)xai_model_ir_version(model),
           (long long)xai_model_opset(model, ""));
    if (*xai_model_producer_name(model))
        printf(", by %s %s", xai_model_producer_name(model), xai_model_producer_version(model));
    putchar('\n');
    for (size_t i = 0; i < xai_model_input_count(model); i++)
        print_value("input", xai_model_input_name(model, i), xai_model_input_dtype(model, i),
                    xai_model_input_rank(model, i), xai_model_input_dims(model, i),
                    xai_model_input_dim_name(model, i, 0));
    for (size_t i = 0; i < xai_model_output_count(model); i++)
        print_value("output", xai_model_output_name(model, i), xai_model_output_dtype(model, i),
                    xai_model_output_rank(model, i), xai_model_output_dims(model, i),
                    xai_model_output_dim_name(model, i, 0));
    print_card(model);
    print_layers(model, layers);
    for (size_t i = 0; i < xai_model_metadata_count(model); i++)
        if (strncmp(xai_model_metadata_key(model, i), "xai.", 4) != 0)
            printf("metadata %s: %.200s\n", xai_model_metadata_key(model, i),
                   xai_model_metadata_value(model, i));
    xai_model_free(model);
    return EXIT_OK;
}
