/* Private to this folder. */
#ifndef CARD_CLASS_LABELS_H
#define CARD_CLASS_LABELS_H

#include "card/card.h"

/* Labels from the model's classifier nodes, when there are such and they agree; at most `most`.
 * false = out of memory. */
bool card_add_class_labels(model_card *card, const onnx_model *model, size_t most);

#endif
