// A C++ program against the installed library: explains an input, checks the map, and gets an error as it should.
#include <xai/xai.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

template <typename T, void (*release)(T *)> struct releaser {
    void operator()(T *handle) const { release(handle); }
};
template <typename T, void (*release)(T *)> using handle = std::unique_ptr<T, releaser<T, release>>;

static int fail(xai_error *error)
{
    std::fprintf(stderr, "use: %s\n", error ? xai_error_message(error) : "?");
    xai_error_free(error);
    return 1;
}

int main(int, char **arguments)
{
    xai_error *error = nullptr;
    xai_model *model = nullptr;
    if (xai_model_open("/nonexistent.onnx", &model, &error) != XAI_ERROR_FILE || !error)
        return fail(error);
    xai_error_free(error);
    error = nullptr;
    if (xai_model_open(arguments[1], &model, &error) != XAI_OK)
        return fail(error);
    const handle<xai_model, xai_model_free> model_handle(model);

    const std::int64_t dims[4] = {2, 1, 16, 16};
    std::vector<float> values(2 * 16 * 16);
    for (std::size_t i = 0; i < values.size(); i++)
        values[i] = static_cast<float>(i % 17) / 17.0F;
    xai_tensor *input = nullptr;
    if (xai_tensor_wrap(XAI_DTYPE_FLOAT32, 4, dims, values.data(), &input, &error) != XAI_OK)
        return fail(error);
    const handle<xai_tensor, xai_tensor_free> input_handle(input);

    xai_explainer *explainer = nullptr;
    xai_explanation *explanation = nullptr;
    if (xai_explainer_create(model, "gradcam", nullptr, &explainer, &error) != XAI_OK)
        return fail(error);
    const handle<xai_explainer, xai_explainer_free> explainer_handle(explainer);
    if (xai_explainer_explain(explainer, input, nullptr, &explanation, &error) != XAI_OK)
        return fail(error);
    const handle<xai_explanation, xai_explanation_free> explanation_handle(explanation);
    const xai_tensor *map = xai_explanation_map(explanation);
    if (xai_tensor_count(map) != values.size())
        return fail(nullptr);
    for (std::size_t i = 0; i < values.size(); i++) {
        const float value = static_cast<const float *>(xai_tensor_data(map))[i];
        if (!(value >= 0 && value <= 1))
            return fail(nullptr);
    }
    std::printf("%s: %s %.4f\n", xai_version(), xai_explanation_label(explanation, 0), xai_explanation_score(explanation, 0));
    return 0;
}
