"""Draw phantoms to PNG files.

    python examples/phantom/generate.py demo                       # the pictures in images/ and masks/, as committed
    python examples/phantom/generate.py chest --count 4 --seed 7 --finding Nodule --finding Cardiomegaly
    python examples/phantom/generate.py mammogram --count 4 --normal

Needs numpy alone. Every file depends on its seed and size only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from pathlib import Path

from phantom import CHEST_LABELS, MAMMOGRAM_LABELS, Picture, chest, mammogram
from phantom.picture import to_bytes, write_png

HERE = Path(__file__).resolve().parent
DEMO_SEED = 3_000_000  # far from the seeds of training and testing, see dataset.py

# The committed chests: name, seed after DEMO_SEED, findings. The nodules of these two seeds lie clear of the heart.
DEMO_CHESTS = {
    "normal": (0, ()),
    "pneumothorax": (1, ("Pneumothorax",)),
    "effusion": (2, ("Pleural effusion",)),
    "nodule": (25, ("Nodule",)),
    "cardiomegaly": (4, ("Cardiomegaly",)),
    "consolidation": (5, ("Consolidation",)),
    "effusion_cardiomegaly": (6, ("Pleural effusion", "Cardiomegaly")),
    "pneumothorax_nodule": (38, ("Pneumothorax", "Nodule")),
}
DEMO_MAMMOGRAMS = ("normal", "circumscribed", "spiculated") * 2 + ("circumscribed", "spiculated")


def save(picture: Picture, name: str, seed: int, images: Path, masks: Path) -> dict[str, object]:
    """Write one picture and its masks; what labels.json says about it."""
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    write_png(images / f"{name}.png", to_bytes(picture.image))
    files = {}
    for finding, mask in picture.masks.items():
        files[finding] = f"{name}.{finding.lower().replace(' ', '_')}.png"
        write_png(masks / files[finding], mask.astype("uint8") * 255)
    facts = {key: round(value, 3) if isinstance(value, float) else value for key, value in picture.facts.items()}
    return {"seed": seed, "labels": list(picture.masks), "masks": files, "facts": facts}


def breast(margin: str, seed: int, size: int) -> tuple[Picture, int]:
    """The first breast from `seed` on that has the wanted mass, or none."""
    present = () if margin == "normal" else MAMMOGRAM_LABELS
    while present and mammogram(seed, 64, present).facts["Mass: margin"] != margin:
        seed += 1
    return mammogram(seed, size, present), seed


def demo(size: int) -> None:
    """The committed pictures."""
    images, masks = HERE / "images", HERE / "masks"
    listed = {}
    for name, (offset, findings) in DEMO_CHESTS.items():
        seed = DEMO_SEED + offset
        listed[f"chest_{name}.png"] = save(chest(seed, size, findings), f"chest_{name}", seed, images, masks)
    for index, margin in enumerate(DEMO_MAMMOGRAMS):
        picture, seed = breast(margin, DEMO_SEED + 100 * index, size)
        name = f"mammogram_{margin}_{DEMO_MAMMOGRAMS[: index + 1].count(margin)}"
        listed[f"{name}.png"] = save(picture, name, seed, images, masks)
    (HERE / "labels.json").write_text(json.dumps(listed, indent=2) + "\n")
    print(f"{len(listed)} pictures in {images}")


def some(kind: str, count: int, seed: int, size: int, present: Collection[str] | None, out: Path) -> None:
    """`count` pictures from consecutive seeds."""
    listed = {}
    for number in range(seed, seed + count):
        picture = (chest if kind == "chest" else mammogram)(number, size, present)
        listed[f"{kind}_{number}.png"] = save(picture, f"{kind}_{number}", number, out, out)
    (out / "labels.json").write_text(json.dumps(listed, indent=2) + "\n")
    print(f"{count} pictures in {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("demo", "chest", "mammogram"))
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--finding", action="append", choices=CHEST_LABELS + MAMMOGRAM_LABELS, help="may be repeated")
    parser.add_argument("--normal", action="store_true", help="no finding at all; without both, chance decides")
    parser.add_argument("--out", type=Path, default=Path("phantoms"))
    arguments = parser.parse_args()
    if arguments.kind == "demo":
        demo(arguments.size)
    else:
        present = () if arguments.normal else arguments.finding
        some(arguments.kind, arguments.count, arguments.seed, arguments.size, present, arguments.out)


if __name__ == "__main__":
    main()
