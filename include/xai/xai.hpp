/**
 * @file
 * libxai for C++17: handles that free themselves, exceptions, containers in and out. Nothing but the C interface lies below, and
 * `get()` of every class gives its handle for what is not wrapped here.
 *
 *     xai::model model("chest.onnx");
 *     xai::tensor input = model.image_input(pixels, width, height);     // std::vector<std::uint8_t> or <std::uint16_t>
 *     xai::explanation found = xai::explainer(model, "gradcam++").explain(input, "Effusion");
 *     std::cout << found.label(0) << ' ' << found.score(0);
 *     const float *map = found.map().data<float>();                      // (1, height, width) in [0, 1]
 *
 * A model may be shared between threads; sessions and explainers serve one at a time. Every class can be moved; a model can be
 * copied, which takes one more reference.
 * @since 0.1
 */
#ifndef XAI_XAI_HPP
#define XAI_XAI_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "xai.h"

namespace xai {

/** A failure that libxai reports; what() is the whole message. @since 0.1 */
class error : public std::runtime_error {
public:
    error(xai_status status, const std::string &message, std::string place)
        : std::runtime_error(message), status_(status), place_(std::move(place))
    {
    }
    /** An XAI_ERROR_* constant. */
    xai_status status() const noexcept { return status_; }
    /** Node, file, input or option that it is about; may be empty. */
    const std::string &place() const noexcept { return place_; }

private:
    xai_status status_;
    std::string place_;
};

namespace detail {

/** The last argument of a call; check() throws what the call reports. */
class outcome {
public:
    outcome() = default;
    outcome(const outcome &) = delete;
    outcome &operator=(const outcome &) = delete;
    ~outcome() { xai_error_free(error_); }
    xai_error **out() noexcept { return &error_; }
    void check(xai_status status) const
    {
        if (status == XAI_OK)
            return;
        throw error(status, error_ ? xai_error_message(error_) : xai_status_name(status),
                    error_ ? xai_error_place(error_) : "");
    }

private:
    xai_error *error_ = nullptr;
};

/** Run a call whose last argument is `xai_error **`. */
template <typename Call, typename... Arguments> void check(Call call, Arguments... arguments)
{
    outcome result;
    result.check(call(arguments..., result.out()));
}

template <typename T, void (*release)(T *)> struct releaser {
    void operator()(T *pointer) const noexcept { release(pointer); }
};
template <typename T, void (*release)(T *)> using handle = std::unique_ptr<T, releaser<T, release>>;

template <typename T> struct element; /* the XAI_DTYPE_* constant of a type */
template <> struct element<float> { static constexpr std::int32_t dtype = XAI_DTYPE_FLOAT32; };
template <> struct element<double> { static constexpr std::int32_t dtype = XAI_DTYPE_FLOAT64; };
template <> struct element<std::uint8_t> { static constexpr std::int32_t dtype = XAI_DTYPE_UINT8; };
template <> struct element<std::int8_t> { static constexpr std::int32_t dtype = XAI_DTYPE_INT8; };
template <> struct element<std::uint16_t> { static constexpr std::int32_t dtype = XAI_DTYPE_UINT16; };
template <> struct element<std::int16_t> { static constexpr std::int32_t dtype = XAI_DTYPE_INT16; };
template <> struct element<std::int32_t> { static constexpr std::int32_t dtype = XAI_DTYPE_INT32; };
template <> struct element<std::int64_t> { static constexpr std::int32_t dtype = XAI_DTYPE_INT64; };
template <> struct element<std::uint32_t> { static constexpr std::int32_t dtype = XAI_DTYPE_UINT32; };
template <> struct element<std::uint64_t> { static constexpr std::int32_t dtype = XAI_DTYPE_UINT64; };

inline std::vector<std::int64_t> dims_of(const xai_tensor *tensor)
{
    const std::int64_t *dims = xai_tensor_dims(tensor);
    return dims ? std::vector<std::int64_t>(dims, dims + xai_tensor_rank(tensor)) : std::vector<std::int64_t>();
}

template <typename T> const T *data_of(const xai_tensor *tensor)
{
    if (tensor && xai_tensor_dtype(tensor) != element<T>::dtype)
        throw error(XAI_ERROR_ARGUMENT, std::string("the elements are ") + xai_dtype_name(xai_tensor_dtype(tensor)), "");
    return static_cast<const T *>(xai_tensor_data(tensor));
}

} // namespace detail

/** Numbers of an explanation: belong to it, valid as long as it lives. Empty when there are none. @since 0.1 */
class tensor_view {
public:
    explicit tensor_view(const xai_tensor *tensor) noexcept : tensor_(tensor) {}
    explicit operator bool() const noexcept { return tensor_ != nullptr; }
    std::vector<std::int64_t> shape() const { return detail::dims_of(tensor_); }
    std::size_t size() const noexcept { return xai_tensor_count(tensor_); }
    /** Row-major elements; throws when they have another type. */
    template <typename T> const T *data() const { return detail::data_of<T>(tensor_); }
    const xai_tensor *get() const noexcept { return tensor_; }

private:
    const xai_tensor *tensor_;
};

/** Numbers with a shape, row-major; owns them. @since 0.1 */
class tensor {
public:
    /** Takes over a tensor of the C interface. */
    explicit tensor(xai_tensor *owned) noexcept : tensor_(owned) {}
    /** Copies `values`. */
    template <typename T> tensor(const std::vector<T> &values, const std::vector<std::int64_t> &shape)
    {
        std::uint64_t count = 1;
        for (const std::int64_t size : shape)
            count = size < 0 ? UINT64_MAX : size != 0 && count > UINT64_MAX / static_cast<std::uint64_t>(size) ? UINT64_MAX
                                                                                : count * static_cast<std::uint64_t>(size);
        if (count != values.size())
            throw error(XAI_ERROR_SHAPE, "the shape does not describe " + std::to_string(values.size()) + " values", "shape");
        xai_tensor *made = nullptr;
        detail::check(xai_tensor_create, detail::element<T>::dtype, static_cast<std::int32_t>(shape.size()), shape.data(),
                      static_cast<const void *>(values.data()), &made);
        tensor_.reset(made);
    }
    std::vector<std::int64_t> shape() const { return detail::dims_of(tensor_.get()); }
    std::size_t size() const noexcept { return xai_tensor_count(tensor_.get()); }
    template <typename T> const T *data() const { return detail::data_of<T>(tensor_.get()); }
    template <typename T> std::vector<T> to_vector() const { return std::vector<T>(data<T>(), data<T>() + size()); }
    const xai_tensor *get() const noexcept { return tensor_.get(); }

private:
    detail::handle<xai_tensor, xai_tensor_free> tensor_;
};

/** Which score is explained: nothing (the highest of each row), an index or a label. @since 0.1 */
class target {
public:
    /** The highest score of each row. */
    target() = default;
    target(std::int64_t index) { detail::check(xai_target_add_index, make(), index); }
    target(int index) : target(static_cast<std::int64_t>(index)) {}
    target(const char *label) { detail::check(xai_target_add_label, make(), label); }
    target(const std::string &label) : target(label.c_str()) {}
    /** One element of an output of any shape, without the row axis. */
    static target element(const std::vector<std::int64_t> &indices)
    {
        target made;
        detail::check(xai_target_add_element, made.make(), indices.data(), indices.size());
        return made;
    }
    /** Choose from another output than the first. */
    target &of(const std::string &output)
    {
        detail::check(xai_target_set_output, target_ ? target_.get() : make(), output.c_str());
        return *this;
    }
    const xai_target *get() const noexcept { return target_.get(); }

private:
    xai_target *make()
    {
        xai_target *made = nullptr;
        detail::check(xai_target_create, &made);
        target_.reset(made);
        return made;
    }
    detail::handle<xai_target, xai_target_free> target_;
};

/** Called with (done, total) while a long call works, perhaps from another thread; false stops the call. @since 0.1 */
using progress = std::function<bool(std::size_t, std::size_t)>;

/** How a session or explainer runs. @since 0.1 */
class session_options {
public:
    session_options()
    {
        xai_session_options *made = nullptr;
        detail::check(xai_session_options_create, &made);
        options_.reset(made);
    }
    session_options &threads(std::int32_t count) { return set(xai_session_options_set_threads, count); }
    session_options &mode(std::int32_t mode) { return set(xai_session_options_set_mode, mode); }
    session_options &precision(std::int32_t precision) { return set(xai_session_options_set_precision, precision); }
    session_options &memory_limit(std::size_t bytes) { return set(xai_session_options_set_memory_limit, bytes); }
    /** The function lives as long as what is made with these options. An exception in it stops the call as false does. */
    session_options &on_progress(progress call)
    {
        progress_ = std::make_shared<progress>(std::move(call));
        detail::check(xai_session_options_set_progress, options_.get(), &session_options::report, static_cast<void *>(progress_.get()));
        return *this;
    }
    const xai_session_options *get() const noexcept { return options_.get(); }
    /** What get() refers to: to be kept as long as it is used. */
    std::shared_ptr<progress> kept() const noexcept { return progress_; }

private:
    template <typename Call, typename Value> session_options &set(Call call, Value value)
    {
        detail::check(call, options_.get(), value);
        return *this;
    }
    static std::int32_t report(void *user, std::size_t done, std::size_t total) noexcept
    {
        try {
            return (*static_cast<progress *>(user))(done, total) ? 0 : 1;
        } catch (...) {
            return 1;
        }
    }
    detail::handle<xai_session_options, xai_session_options_free> options_;
    std::shared_ptr<progress> progress_;
};

/** A trained model. @since 0.1 */
class model {
public:
    /** Open an ONNX file (path in UTF-8). */
    explicit model(const std::string &path)
    {
        xai_model *made = nullptr;
        detail::check(xai_model_open, path.c_str(), &made);
        model_.reset(made);
    }
    /** Read a model from memory, which is copied. */
    model(const void *bytes, std::size_t size)
    {
        xai_model *made = nullptr;
        detail::check(xai_model_parse, bytes, size, &made);
        model_.reset(made);
    }
    model(const model &other) : model_(xai_model_retain(other.model_.get())) {}
    model(model &&) noexcept = default;
    model &operator=(model other) noexcept
    {
        model_ = std::move(other.model_);
        return *this;
    }
    std::vector<std::string> labels() const
    {
        std::vector<std::string> found;
        for (std::size_t i = 0; i < xai_model_label_count(get()); i++)
            found.emplace_back(xai_model_label(get(), i));
        return found;
    }
    std::vector<std::string> layers() const
    {
        std::vector<std::string> found;
        for (std::size_t i = 0; i < xai_model_layer_count(get()); i++)
            found.emplace_back(xai_model_layer_name(get(), i));
        return found;
    }
    std::size_t input_count() const noexcept { return xai_model_input_count(get()); }
    std::size_t output_count() const noexcept { return xai_model_output_count(get()); }
    /** See xai_model_image_input(). */
    template <typename T>
    tensor image_input(const std::vector<T> &pixels, std::size_t width, std::size_t height, std::int32_t channels = 1,
                       double black = 0, double white = 0, std::size_t index = 0) const
    {
        if (channels < 1 || (width != 0 && height > SIZE_MAX / width / static_cast<std::size_t>(channels)) ||
            pixels.size() != width * height * static_cast<std::size_t>(channels))
            throw error(XAI_ERROR_SHAPE, "there are not width x height x channels pixels", "pixels");
        xai_tensor *made = nullptr;
        detail::check(xai_model_image_input, get(), index, static_cast<const void *>(pixels.data()), detail::element<T>::dtype,
                      width, height, channels, black, white, &made);
        return tensor(made);
    }
    xai_model *get() const noexcept { return model_.get(); }

private:
    detail::handle<xai_model, xai_model_free> model_;
};

/** How a map is drawn. @since 0.1 */
class display {
public:
    display()
    {
        xai_display *made = nullptr;
        detail::check(xai_display_create, &made);
        display_.reset(made);
    }
    display &alpha(double strength) { return detail::check(xai_display_set_alpha, get(), strength), *this; }
    display &colours(const char *name) { return detail::check(xai_display_set_colours, get(), name), *this; }
    display &percentile(double of_positive) { return detail::check(xai_display_set_percentile, get(), of_positive), *this; }
    display &smoothing(double sigma) { return detail::check(xai_display_set_smoothing, get(), sigma), *this; }
    display &contour(double threshold) { return detail::check(xai_display_set_contour, get(), threshold), *this; }
    xai_display *get() const noexcept { return display_.get(); }

private:
    detail::handle<xai_display, xai_display_free> display_;
};

/** What a method found. @since 0.1 */
class explanation {
public:
    /** Takes over an explanation of the C interface. */
    explicit explanation(xai_explanation *owned) noexcept : explanation_(owned) {}
    std::size_t rows() const noexcept { return xai_explanation_row_count(get()); }
    std::string method() const { return xai_explanation_method(get()); }
    std::string layer() const { return xai_explanation_layer(get()); }
    std::string label(std::size_t row) const { return xai_explanation_label(get(), row); }
    std::int64_t target(std::size_t row) const noexcept { return xai_explanation_target(get(), row); }
    double score(std::size_t row) const noexcept { return xai_explanation_score(get(), row); }
    double base_value(std::size_t row) const noexcept { return xai_explanation_base_value(get(), row); }
    double completeness_error(std::size_t row) const noexcept { return xai_explanation_completeness_error(get(), row); }
    std::vector<std::string> warnings() const
    {
        std::vector<std::string> found;
        for (std::size_t i = 0; i < xai_explanation_warning_count(get()); i++)
            found.emplace_back(xai_explanation_warning(get(), i));
        return found;
    }
    /** The facts as JSON. */
    std::string json() const { return xai_explanation_json(get()); }
    tensor_view values() const noexcept { return tensor_view(xai_explanation_values(get())); }
    /** (N, H, W) in [0, 1]; empty when the input has no spatial axes. */
    tensor_view map() const noexcept { return tensor_view(xai_explanation_map(get())); }
    /** height x width x 3 bytes RGB: the map of a row over an image of 1 or 3 channels. */
    std::vector<std::uint8_t> overlay(const std::vector<std::uint8_t> &image, std::size_t width, std::size_t height,
                                      std::int32_t channels, std::size_t row = 0, double alpha = 0.5,
                                      const char *colours = nullptr) const
    {
        if (channels < 1 || (width != 0 && height > SIZE_MAX / 3 / width) ||
            image.size() != width * height * static_cast<std::size_t>(channels))
            throw error(XAI_ERROR_SHAPE, "there are not width x height x channels bytes", "image");
        std::vector<std::uint8_t> drawn(width * height * 3);
        detail::check(xai_explanation_overlay, get(), row, image.data(), width, height, channels, alpha, colours, drawn.data());
        return drawn;
    }
    /** The same in a chosen way; nothing of it changes a number. `strongest`, if given, is set to the value of the
     *  (smoothed) map with the strongest colour: xai_explanation_draw(). */
    std::vector<std::uint8_t> draw(const std::vector<std::uint8_t> &image, std::size_t width, std::size_t height,
                                   std::int32_t channels, const display &how, std::size_t row = 0,
                                   double *strongest = nullptr) const
    {
        if (channels < 1 || (width != 0 && height > SIZE_MAX / 3 / width) ||
            image.size() != width * height * static_cast<std::size_t>(channels))
            throw error(XAI_ERROR_SHAPE, "there are not width x height x channels bytes", "image");
        std::vector<std::uint8_t> drawn(width * height * 3);
        detail::check(xai_explanation_draw, get(), row, image.data(), width, height, channels, how.get(), drawn.data(), strongest);
        return drawn;
    }
    const xai_explanation *get() const noexcept { return explanation_.get(); }

private:
    detail::handle<xai_explanation, xai_explanation_free> explanation_;
};

/** What an explainer does. @since 0.1 */
class explainer_options {
public:
    explainer_options()
    {
        xai_explainer_options *made = nullptr;
        detail::check(xai_explainer_options_create, &made);
        options_.reset(made);
    }
    /** An option of the method by name; xai_method_option_name() lists them. */
    explainer_options &set(const std::string &name, double value)
    {
        detail::check(xai_explainer_options_set_number, options_.get(), name.c_str(), value);
        return *this;
    }
    explainer_options &set(const std::string &name, const std::string &value)
    {
        detail::check(xai_explainer_options_set_text, options_.get(), name.c_str(), value.c_str());
        return *this;
    }
    explainer_options &set(const std::string &name, const char *value) { return set(name, std::string(value)); }
    explainer_options &set(const std::string &name, const tensor &value, std::size_t input = 0)
    {
        detail::check(xai_explainer_options_set_tensor, options_.get(), name.c_str(), input, value.get());
        return *this;
    }
    /** An XAI_SCORE_* constant. */
    explainer_options &score(std::int32_t kind)
    {
        detail::check(xai_explainer_options_set_score, options_.get(), kind);
        return *this;
    }
    /** An XAI_SCALING_* constant. */
    explainer_options &scaling(std::int32_t kind)
    {
        detail::check(xai_explainer_options_set_scaling, options_.get(), kind);
        return *this;
    }
    explainer_options &session(const session_options &session)
    {
        detail::check(xai_explainer_options_set_session, options_.get(), session.get());
        progress_ = session.kept();
        return *this;
    }
    const xai_explainer_options *get() const noexcept { return options_.get(); }
    std::shared_ptr<progress> kept() const noexcept { return progress_; }

private:
    detail::handle<xai_explainer_options, xai_explainer_options_free> options_;
    std::shared_ptr<progress> progress_;
};

/** A method bound to a model; used by one thread at a time. @since 0.1 */
class explainer {
public:
    explainer(const model &from, const std::string &method) : explainer(from, method, explainer_options()) {}
    explainer(const model &from, const std::string &method, const explainer_options &options) : progress_(options.kept())
    {
        xai_explainer *made = nullptr;
        detail::check(xai_explainer_create, from.get(), method.c_str(), options.get(), &made);
        explainer_.reset(made);
    }
    /** Explain the input of a model with one input. */
    explanation explain(const tensor &input, const target &chosen = target())
    {
        xai_explanation *made = nullptr;
        detail::check(xai_explainer_explain, explainer_.get(), input.get(), chosen.get(), &made);
        return explanation(made);
    }
    xai_explainer *get() const noexcept { return explainer_.get(); }

private:
    std::shared_ptr<progress> progress_; /* outlives the explainer, which calls it */
    detail::handle<xai_explainer, xai_explainer_free> explainer_;
};

/** Runs a model; used by one thread at a time. @since 0.1 */
class session {
public:
    explicit session(const model &from) : session(from, session_options()) {}
    session(const model &from, const session_options &options) : model_(from), progress_(options.kept())
    {
        xai_session *made = nullptr;
        detail::check(xai_session_create, from.get(), options.get(), &made);
        session_.reset(made);
    }
    /** One tensor (N, ...) an output. */
    std::vector<tensor> run(const std::vector<const tensor *> &inputs)
    {
        const std::vector<const xai_tensor *> given = pointers(inputs);
        std::vector<xai_tensor *> made(model_.output_count(), nullptr);
        std::vector<tensor> results;
        results.reserve(made.size());
        detail::check(xai_session_scores, session_.get(), given.data(), given.size(), made.data(), made.size());
        for (xai_tensor *each : made)
            results.emplace_back(each);
        return results;
    }
    /** The first output for a model with one input. */
    tensor run(const tensor &input)
    {
        std::vector<tensor> results = run(std::vector<const tensor *>{&input});
        return std::move(results.front());
    }
    /** d score / d input, or / d layer `wrt`, for a model with one input. */
    tensor gradient(const tensor &input, const target &chosen = target(), std::int32_t score = XAI_SCORE_RAW,
                    const char *wrt = nullptr)
    {
        const xai_tensor *given = input.get();
        const xai_target *wanted = chosen.get();
        xai_tensor *made = nullptr;
        detail::check(xai_session_gradients, session_.get(), &given, std::size_t{1}, &wanted, std::size_t{1}, score,
                      wrt ? &wrt : nullptr, std::size_t{wrt ? 1U : 0U}, &made, static_cast<xai_tensor **>(nullptr));
        return tensor(made);
    }
    xai_session *get() const noexcept { return session_.get(); }

private:
    static std::vector<const xai_tensor *> pointers(const std::vector<const tensor *> &tensors)
    {
        std::vector<const xai_tensor *> found;
        for (const tensor *each : tensors)
            found.push_back(each ? each->get() : nullptr);
        return found;
    }
    model model_;
    std::shared_ptr<progress> progress_;
    detail::handle<xai_session, xai_session_free> session_;
};

/** Names of all methods. @since 0.1 */
inline std::vector<std::string> methods()
{
    std::vector<std::string> found;
    for (std::size_t i = 0; i < xai_method_count(); i++)
        found.emplace_back(xai_method_name(i));
    return found;
}

} // namespace xai

#endif
