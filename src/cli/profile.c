#include "profile.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli.h"

static double total_milliseconds(const xai_plan *plan, int32_t backward)
{
    double total = 0;
    for (size_t i = 0; i < xai_plan_step_count(plan); i++)
        if (xai_plan_step_backward(plan, i) == backward)
            total += xai_plan_step_milliseconds(plan, i);
    return total;
}

/* 1e9 floating point operations a second; 0 where none are counted. */
static double gigaflops(double operations, double milliseconds)
{
    return milliseconds > 0 ? operations / milliseconds / 1e6 : 0;
}

static void print_rate(FILE *to, double operations, double milliseconds)
{
    if (operations > 0)
        fprintf(to, " %9.1f", gigaflops(operations, milliseconds));
    else
        fprintf(to, " %9s", "-");
}

/* Names come from the file: control characters become '?'. */
static void print_name(FILE *to, const char *name)
{
    for (; *name; name++)
        fputc((unsigned char)*name < 32 || *name == 127 ? '?' : *name, to);
}

/* A step without a node moves data between two that have one. */
static const char *operator_of(const xai_plan *plan, size_t step)
{
    const char *name = xai_plan_step_operator(plan, step);
    return *name ? name : "(layout)";
}

typedef struct share {
    const char *implementation;
    size_t steps;
    double milliseconds, operations;
} share;

static int longest_first(const void *a, const void *b)
{
    const share *x = a, *y = b;
    return (x->milliseconds < y->milliseconds) - (x->milliseconds > y->milliseconds);
}

static void print_shares(FILE *to, const xai_plan *plan, double total)
{
    const size_t count = xai_plan_step_count(plan);
    share *shares = memory_allocate_zeroed(count + 1, sizeof *shares);
    size_t n = 0;
    if (!shares) {
        report("out of memory");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const char *name = xai_plan_step_implementation(plan, i);
        size_t k = 0;
        while (k < n && strcmp(shares[k].implementation, name) != 0)
            k++;
        if (k == n)
            shares[n++].implementation = name;
        shares[k].steps++;
        shares[k].milliseconds += xai_plan_step_milliseconds(plan, i);
        shares[k].operations += xai_plan_step_operations(plan, i);
    }
    qsort(shares, n, sizeof *shares, longest_first);
    fprintf(to, "\n%9s %6s %9s %6s  implementation\n", "ms", "share", "GFLOP/s", "steps");
    for (size_t k = 0; k < n; k++) {
        fprintf(to, "%9.3f %5.1f%%", shares[k].milliseconds,
                total > 0 ? 100 * shares[k].milliseconds / total : 0);
        print_rate(to, shares[k].operations, shares[k].milliseconds);
        fprintf(to, " %6zu  %s\n", shares[k].steps, shares[k].implementation);
    }
    memory_free(shares);
}

void profile_print_steps(FILE *to, const xai_plan *plan)
{
    const double forward = total_milliseconds(plan, 0), backward = total_milliseconds(plan, 1),
                 total = forward + backward;
    fprintf(to, "forward %.2f ms, backward %.2f ms: sums of each step's least time\n\n", forward,
            backward);
    fprintf(to, "%4s %-8s %9s %6s %9s %9s  %-28s %-18s %s\n", "step", "pass", "ms", "share",
            "GFLOP/s", "kB", "implementation", "operator", "node");
    for (size_t i = 0; i < xai_plan_step_count(plan); i++) {
        const double milliseconds = xai_plan_step_milliseconds(plan, i);
        const char *implementation = xai_plan_step_implementation(plan, i);
        if (strcmp(implementation, "alias") == 0)
            continue;
        fprintf(to, "%4zu %-8s %9.3f %5.1f%%", i,
                xai_plan_step_backward(plan, i) ? "backward" : "forward", milliseconds,
                total > 0 ? 100 * milliseconds / total : 0);
        print_rate(to, xai_plan_step_operations(plan, i), milliseconds);
        fprintf(to, " %9.0f  %-28s %-18s ", (double)xai_plan_step_bytes(plan, i) / 1e3,
                implementation, operator_of(plan, i));
        print_name(to, xai_plan_step_node(plan, i));
        fputc('\n', to);
    }
    print_shares(to, plan, total);
}

void profile_print_memory(FILE *to, const xai_plan *plan)
{
    const size_t scratchpad = xai_plan_scratchpad_bytes(plan);
    size_t sum = 0;
    fprintf(to, "%12s %12s %6s %6s %-8s %s\n", "kB", "at kB", "first", "last", "pass", "value");
    for (size_t i = 0; i < xai_plan_buffer_count(plan); i++) {
        sum += xai_plan_buffer_bytes(plan, i);
        fprintf(to, "%12.1f %12.1f %6zu %6zu %-8s ", (double)xai_plan_buffer_bytes(plan, i) / 1e3,
                (double)xai_plan_buffer_offset(plan, i) / 1e3, xai_plan_buffer_first_step(plan, i),
                xai_plan_buffer_last_step(plan, i),
                xai_plan_buffer_gradient(plan, i) ? "backward" : "forward");
        print_name(to, xai_plan_buffer_value(plan, i));
        fputc('\n', to);
    }
    fprintf(to,
            "\nworking memory of a row: %.1f kB of buffers (%.1f kB if none were shared) and %.1f "
            "kB of scratchpad\nprepared weights: %.1f kB, shared by all sessions of the model\n",
            (double)(xai_plan_arena_bytes(plan) - scratchpad) / 1e3, (double)sum / 1e3,
            (double)scratchpad / 1e3, (double)xai_plan_weights_bytes(plan) / 1e3);
}

/* With quotes and escapes. */
static void json_string(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(to, "\\%c", c);
        else if (c < 32)
            fprintf(to, "\\u%04x", c);
        else
            fputc(c, to);
    }
    fputc('"', to);
}

static void json_step(FILE *to, const xai_plan *plan, size_t i)
{
    const double milliseconds = xai_plan_step_milliseconds(plan, i),
                 operations = xai_plan_step_operations(plan, i);
    fprintf(to, "  {\"step\": %zu, \"pass\": \"%s\", \"node\": ", i,
            xai_plan_step_backward(plan, i) ? "backward" : "forward");
    json_string(to, xai_plan_step_node(plan, i));
    fputs(", \"operator\": ", to);
    json_string(to, xai_plan_step_operator(plan, i));
    fputs(", \"implementation\": ", to);
    json_string(to, xai_plan_step_implementation(plan, i));
    fprintf(to,
            ", \"milliseconds\": %.6f, \"operations\": %.0f, \"gigaflops\": %.3f, "
            "\"bytes\": %zu}",
            milliseconds, operations, gigaflops(operations, milliseconds),
            xai_plan_step_bytes(plan, i));
}

static void json_buffer(FILE *to, const xai_plan *plan, size_t i)
{
    fputs("  {\"value\": ", to);
    json_string(to, xai_plan_buffer_value(plan, i));
    fprintf(to,
            ", \"pass\": \"%s\", \"bytes\": %zu, \"offset\": %zu, \"first_step\": %zu, "
            "\"last_step\": %zu}",
            xai_plan_buffer_gradient(plan, i) ? "backward" : "forward",
            xai_plan_buffer_bytes(plan, i), xai_plan_buffer_offset(plan, i),
            xai_plan_buffer_first_step(plan, i), xai_plan_buffer_last_step(plan, i));
}

void profile_write_json(FILE *to, const xai_plan *plan, const char *model)
{
    fputs("{\"model\": ", to);
    json_string(to, model);
    fprintf(to,
            ",\n \"forward_milliseconds\": %.6f, \"backward_milliseconds\": %.6f,\n"
            " \"arena_bytes\": %zu, \"scratchpad_bytes\": %zu, \"weights_bytes\": %zu,\n"
            " \"steps\": [",
            total_milliseconds(plan, 0), total_milliseconds(plan, 1), xai_plan_arena_bytes(plan),
            xai_plan_scratchpad_bytes(plan), xai_plan_weights_bytes(plan));
    for (size_t i = 0; i < xai_plan_step_count(plan); i++) {
        fputs(i ? ",\n" : "\n", to);
        json_step(to, plan, i);
    }
    fputs("],\n \"buffers\": [", to);
    for (size_t i = 0; i < xai_plan_buffer_count(plan); i++) {
        fputs(i ? ",\n" : "\n", to);
        json_buffer(to, plan, i);
    }
    fputs("]}\n", to);
}
