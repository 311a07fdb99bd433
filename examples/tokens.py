"""What speaks for a score in a sentence: by masking tokens, and by gradients at their embedding.

    python examples/tokens.py [MODEL.onnx]     # without: a small BERT of the tests, of random weights

The model takes `ids` and `mask`, (N, L) int64.
"""

from __future__ import annotations

import sys
from pathlib import Path

import libxai
import numpy as np

SMALL = Path(__file__).resolve().parents[1] / "tests/parity/families/text.onnx"
ABSENT = 0  # the id of [MASK] or [PAD]
WORDS = [0, 1, 1, 2, 3, 3, 3, 4, 5, 6]  # of each token: words of up to three tokens


def main() -> None:
    model = libxai.Model(sys.argv[1] if len(sys.argv) > 1 else SMALL)
    ids = np.array([[2, 25, 19, 15, 8, 9, 1, 27, 5, 3]])
    given = {"ids": ids, "mask": np.ones_like(ids)}
    target = int(np.argmax(model(given)))

    tokens = libxai.explain(model, given, "kernel_shap", target=target, baseline={"ids": ABSENT})
    words = libxai.explain(model, given, "exact_shap", target=target, baseline={"ids": ABSENT}, segments=WORDS)
    # The embedding: the first value that is looked up, one vector a token.
    layer = next(each for each in model.layers if each.operator == "Gather")
    slopes = libxai.explain(model, given, "integrated_gradients", target=target, layer=layer, baseline={"ids": ABSENT})

    print(f"score {target}: {tokens.score[0]:.4f}; with every token absent {tokens.base_value[0]:.4f}")
    print(f"absent: {tokens.baseline}")
    print("   id  kernel_shap  integrated_gradients  word")
    for i, (token, word) in enumerate(zip(ids[0], WORDS, strict=True)):
        by_word = f"{words.segment_values[0, word]:+.4f}" if WORDS.index(word) == i else ""
        print(f"{token:5}  {tokens.values['ids'][0, i]:+11.4f}  {slopes.values[0, i].sum():+20.4f}  {by_word}")


if __name__ == "__main__":
    main()
