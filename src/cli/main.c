#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "system.h"

typedef struct command {
    const char *name;
    int (*run)(int count, char **arguments);
    const char *summary, *help;
} command;

static const command commands[] = {
    {"info", command_info, "what a model is: inputs, outputs, labels, layers, card",
     "usage: xai info MODEL [--layers]\n"
     "\n"
     "  --layers   list every layer that can be explained\n"},
    {"run", command_run, "the scores of an image",
     "usage: xai run MODEL IMAGE... [options]\n"
     "\n"
     "  --top N         print the N highest scores (default: all up to 32, else 10)\n"
     "  --npy FILE      write the scores of the first output\n"
     "  --window LOW,HIGH  pixel values that become black and white (default: 0 and the largest of "
     "the file's depth)\n"
     "  --threads N     threads to use (default: all processors)\n"
     "  --precision P   standard (default), reference or fast\n"},
    {"explain", command_explain, "where the evidence for a score is: overlay, map, facts",
     "usage: xai explain MODEL IMAGE... [options]\n"
     "\n"
     "  --method NAME   gradcam (default), gradcam++, ...: see 'xai methods'\n"
     "  --target T      the score to explain: a label of the model card, or an index (default: the "
     "highest score)\n"
     "  --output NAME   the output that the target is in (default: the first)\n"
     "  --option NAME=VALUE  an option of the method ('xai methods METHOD' lists them); may be "
     "repeated;\n"
     "                  a VALUE that ends in .npy is read as an array; INPUT=VALUE,... is for the "
     "inputs named\n"
     "  --samples N, --steps N, --seed N, --noise X, --tolerance X, --baseline B, --background "
     "FILE.npy,\n"
     "  --segments S    the same for the most usual ones\n"
     "  --layer L       a value, a node or an index of 'xai info --layers' (default: the last "
     "before the head)\n"
     "  --score KIND    raw (default), logit or probability\n"
     "  --scaling KIND  max (default) or min-max\n"
     "  -o, --overlay FILE  write the picture with the map over it (PNG, in the picture's own "
     "size)\n"
     "  --json FILE     write the facts\n"
     "  --npy FILE      write the map, (N, H, W) float32 in [0, 1]\n"
     "  --values FILE   write the attributions as the method defines them (NPY); of an input NAME "
     "behind the\n"
     "                  first one beside it: v.NAME.npy for v.npy\n"
     "  --alpha A       strength of the colours, 0 to 1 (default 0.5)\n"
     "  --colours MAP   turbo (default), viridis or inferno\n"
     "  --percentile P  let the colours be strongest at this percentile of the map's values above "
     "0 "
     "(default 100);\n"
     "  --smoothing S   smooth the map by a Gaussian of S of its pixels (default 0); both for the "
     "overlay only,\n"
     "                  maps of pixels are seen with --percentile 99 --smoothing 2\n"
     "  --contour T     draw a line around what is at least T of the strongest (default 0: none)\n"
     "  --row N         the row of a batch to draw (default 0)\n"
     "  --window LOW,HIGH  pixel values that become black and white (default: 0 and the largest of "
     "the file's depth)\n"
     "  --threads N     threads to use (default: all processors)\n"
     "  --precision P   standard (default), reference or fast\n"
     "\n"
     "FILE may be - for standard output. Files are complete or not written at all.\n"},
    {"methods", command_methods, "the methods of explanation",
     "usage: xai methods [METHOD]\n"
     "\n"
     "With METHOD, its options.\n"},
    {"bench", command_bench, "how fast a model runs: scores, gradient, Grad-CAM",
     "usage: xai bench MODEL [options]\n"
     "\n"
     "  --runs N      runs of each (default 20)\n"
     "  --batch N     rows of the input (default 1)\n"
     "  --size N      height and width where the model leaves them free (default 224)\n"
     "  --threads N   threads to use (default: all processors)\n"
     "  --precision P standard (default), reference or fast\n"
     "  --profile     instead: the time of every step, forward and backward to the inputs, with "
     "its\n"
     "                GFLOP/s, its share and what computes it\n"
     "  --memory      instead: the working memory, buffer by buffer\n"
     "  --forward     with these: the plan of the scores alone, where more is fused\n"
     "  --json FILE   write both as JSON\n"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static const command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int print_help(const char *about)
{
    const command *found = about ? find_command(about) : NULL;
    if (about && !found)
        return report_usage(NULL, "unknown command '%s'", about);
    if (found) {
        fputs(found->help, stdout);
        return EXIT_OK;
    }
    puts("xai: explanations of medical imaging models (ONNX)\n\nusage: xai COMMAND ...\n");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-9s %s\n", commands[i].name, commands[i].summary);
    puts(
        "  help      this text; 'xai help COMMAND' for the options of a command\n"
        "  --version\n"
        "\n"
        "IMAGE is a PNG of 8 or 16 bits, made into the model's input as its card says "
        "(docs/model-card.md),\n"
        "or an NPY file with the tensor itself.\n"
        "Exit status: 0; 1 after an error, told in one line on standard error; 2 for wrong usage.");
    return EXIT_OK;
}

static int print_version(void)
{
    char math[64];
    xai_math_library(math, sizeof math);
    printf("xai %s (interface %d, %s)\n", xai_version(), (int)xai_abi_version(), math);
    return EXIT_OK;
}

static int dispatch(int count, char **arguments)
{
    if (count < 2)
        return report_usage(NULL, "no command");
    const char *name = arguments[1];
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0)
        return print_version();
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return print_help(count > 2 ? arguments[2] : NULL);
    const command *found = find_command(name);
    if (!found)
        return report_usage(NULL, "unknown command '%s'", name);
    for (int i = 2; i < count && strcmp(arguments[i], "--") != 0; i++)
        if (strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0)
            return print_help(name);
    return found->run(count - 2, arguments + 2);
}

int main(int count, char **arguments)
{
    if (!system_arguments(&count, &arguments))
        return report("out of memory");
    const int code = dispatch(count, arguments);
    if (code == EXIT_OK && (ferror(stdout) || fflush(stdout) != 0))
        return report("cannot write standard output: %s", strerror(errno ? errno : EIO));
    return code;
}
