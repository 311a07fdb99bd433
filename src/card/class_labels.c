/* Labels of a model whose card names none: those that its classifiers (ai.onnx.ml) carry. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "card/card.h"
#include "card/class_labels.h"

static const onnx_attribute *find(const onnx_node *node, const char *name)
{
    for (size_t i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0)
            return &node->attributes[i];
    return NULL;
}

/* The list of labels of a node whose scores have one entry a class; NULL for others. */
static const onnx_attribute *node_labels(const onnx_node *node)
{
    static const char *const names[] = {"classlabels_strings", "classlabels_int64s",
                                        "classlabels_ints"};
    if (strcmp(node->domain, "ai.onnx.ml") != 0)
        return NULL;
    if (strcmp(node->op_type, "SVMClassifier") == 0 && !find(node, "prob_a"))
        return NULL; /* a score for each pair of classes */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const onnx_attribute *found = find(node, names[i]);
        if (found && found->count > 0 &&
            (found->type == ONNX_ATTRIBUTE_INTS || found->type == ONNX_ATTRIBUTE_STRINGS))
            return found;
    }
    return NULL;
}

static bool equal(const onnx_attribute *a, const onnx_attribute *b)
{
    if (a->type != b->type || a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->type == ONNX_ATTRIBUTE_INTS ? a->ints[i] != b->ints[i]
                                           : strcmp(a->strings[i], b->strings[i]) != 0)
            return false;
    return true;
}

static char *label_text(const onnx_attribute *labels, size_t i)
{
    if (labels->type == ONNX_ATTRIBUTE_STRINGS)
        return text_duplicate(labels->strings[i]);
    text number = {0};
    text_format(&number, "%" PRId64, labels->ints[i]);
    return text_take(&number);
}

bool card_add_class_labels(model_card *card, const onnx_model *model, size_t most)
{
    const onnx_attribute *labels = NULL;
    for (size_t i = 0; i < model->graph.node_count; i++) {
        const onnx_attribute *found = node_labels(&model->graph.nodes[i]);
        if (found && labels && !equal(found, labels))
            return true; /* several classifiers in one: whose classes the scores are is not known */
        labels = found ? found : labels;
    }
    if (!labels || labels->count > most)
        return true;
    card->labels = memory_allocate_zeroed(labels->count, sizeof *card->labels);
    for (size_t i = 0; card->labels && i < labels->count; i++) {
        card->labels[i] = label_text(labels, i);
        if (!card->labels[i])
            return false;
        card->label_count++;
    }
    return card->labels != NULL;
}
