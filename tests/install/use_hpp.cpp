// A C++ program against the installed library by its C++ header: the same numbers as by the C interface, and errors as exceptions.
#include <xai/xai.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>

static void need(bool holds, const char *what)
{
    if (holds)
        return;
    std::fprintf(stderr, "use_hpp: not so: %s\n", what);
    std::exit(1);
}

template <typename Call> static xai_status status_of(Call call)
{
    try {
        call();
    } catch (const xai::error &problem) {
        need(problem.what()[0] != '\0', "an error has a message");
        return problem.status();
    }
    return XAI_OK;
}

int main(int, char **arguments)
{
    need(status_of([] { xai::model("/nonexistent.onnx"); }) == XAI_ERROR_FILE, "a missing file is an error");
    xai::model model(arguments[1]);
    const xai::model copy = model;
    std::vector<float> values(2 * 16 * 16);
    for (std::size_t i = 0; i < values.size(); i++)
        values[i] = static_cast<float>(i % 17) / 17.0F;
    const xai::tensor input(values, {2, 1, 16, 16});
    need(status_of([&] { xai::tensor(values, {2, 1, 16, 15}); }) == XAI_ERROR_SHAPE, "a wrong shape is an error");
    need(status_of([&] { xai::explainer(model, "nothing"); }) == XAI_ERROR_NOT_FOUND, "an unknown method is an error");

    std::size_t reports = 0;
    xai::session_options how;
    how.threads(1).on_progress([&](std::size_t, std::size_t) { return ++reports > 0; });
    xai::session session(copy, how);
    const std::vector<float> scores = session.run(input).to_vector<float>();
    need(scores.size() == 6 && reports > 0, "scores and progress");

    xai::explanation found = xai::explainer(model, "gradcam", xai::explainer_options().set("layer", "activation").session(how)).explain(input, 1);
    need(found.rows() == 2 && found.target(1) == 1 && std::isnan(found.base_value(0)), "facts");
    need(std::fabs(found.score(1) - static_cast<double>(scores[4])) < 1e-6, "the score of the second row");
    need(found.map().shape() == std::vector<std::int64_t>({2, 16, 16}), "shape of the map");
    for (std::size_t i = 0; i < found.map().size(); i++)
        need(found.map().data<float>()[i] >= 0 && found.map().data<float>()[i] <= 1, "a map in [0, 1]");
    need(status_of([&] { found.map().data<double>(); }) == XAI_ERROR_ARGUMENT, "another element type is an error");
    need(found.overlay(std::vector<std::uint8_t>(256), 16, 16, 1).size() == 768, "overlay");
    double strongest = 0;
    const std::vector<std::uint8_t> black(256);
    need(found.draw(black, 16, 16, 1, xai::display(), 0, &strongest) == found.overlay(black, 16, 16, 1) && strongest == 1, "draw");
    found.draw(black, 16, 16, 1, xai::display().percentile(50).smoothing(1).colours("viridis").contour(0.5).alpha(1), 0, &strongest);
    need(strongest > 0 && strongest < 1, "a percentile");
    need(status_of([&] { xai::display().percentile(101); }) == XAI_ERROR_ARGUMENT, "a wrong percentile is an error");

    // d score / d pixel by differences: the score is piecewise linear.
    std::vector<float> moved = values;
    moved[100] += 1.0F / 64;
    const float above = session.run(xai::tensor(moved, {2, 1, 16, 16})).to_vector<float>()[1];
    const float slope = session.gradient(input, 1).data<float>()[100];
    need(std::fabs((above - scores[1]) * 64 - slope) < 2e-3F, "gradient");

    const std::vector<std::uint8_t> white(20 * 20, 255);
    const std::vector<float> made = model.image_input(white, 20, 20).to_vector<float>();
    need(made.size() == 256 && std::fabs(made[0] - 2) < 1e-6F, "white is (1 - 0.5) / 0.25");

    xai::session_options stopping;
    stopping.on_progress([](std::size_t, std::size_t) { return false; });
    need(status_of([&] { xai::session(model, stopping).run(input); }) == XAI_ERROR_CANCELLED, "false stops the call");
    need(xai::methods().size() == xai_method_count(), "methods");
    std::printf("%s %.4f\n", found.label(0).c_str(), found.score(0));
    return 0;
}
