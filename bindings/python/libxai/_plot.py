"""Pictures of explanations with matplotlib, which is imported when something is drawn."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._errors import ArgumentError, UnsupportedError
from ._picture import resize, smooth, strongest

if TYPE_CHECKING:
    from ._explanation import Explanation

KINDS = ("image", "overlay", "contour", "signed", "bar", "signal")
# Both read evenly in lightness and without red and green: for colour-blind eyes and in print.
POSITIVE = "inferno"
DIVERGING = "PuOr_r"
AGAINST_FOR = "← against      for →"  # along the bar, upwards
TITLE = 32  # characters of one line above a panel


def _pyplot() -> Any:
    try:
        return importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        message = "plot needs matplotlib, which is not installed: pip install matplotlib"
        raise UnsupportedError(message, "plot") from error


def row_of(explanation: Explanation, array: Any, row: int) -> Any:
    """Take one row of an attribute; without a row axis there is only one."""
    return array if array is None or explanation._single else array[row]


def picture_of(explanation: Explanation, image: Any, row: int) -> np.ndarray:
    """Make the picture to draw on: what is given, else the explained input, black to white."""
    if image is None:
        picture = explanation._input_picture(row)
        return picture[..., 0] if picture.shape[2] == 1 else picture
    picture = np.asarray(image)
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    if picture.ndim != 2 and not (picture.ndim == 3 and picture.shape[2] == 3):
        raise ArgumentError(f"image: (H, W) or (H, W, 3) is needed, not {picture.shape}", "image")
    return picture


def signed_of(explanation: Explanation, row: int) -> np.ndarray:
    """Find the map with both signs (H, W): the library's, else the values summed over channels.

    Like `map` it has the size of the input, also where the values are those of a layer.
    """
    if explanation.signed_map is not None:
        return np.asarray(row_of(explanation, explanation.signed_map, row))
    values = explanation.values
    if isinstance(values, dict):
        values = next(iter(values.values()))
    found = np.asarray(row_of(explanation, values, row))
    if found.ndim == 3:
        found = found.sum(0)
    if found.ndim != 2:
        raise UnsupportedError(f"the values {found.shape} of a row are no map", "signed")
    heat = row_of(explanation, explanation.map, row)
    return found if heat is None or heat.ndim != 2 else resize(found, *heat.shape)


def _is_signal(explanation: Explanation) -> bool:
    """Whether the map of a row has one axis: time."""
    return explanation.map is not None and np.ndim(row_of(explanation, explanation.map, 0)) == 1


def _default(explanation: Explanation) -> str:
    if explanation.map is not None:
        return "signal" if _is_signal(explanation) else "overlay"
    values = explanation.values
    single = 0 if explanation._single else 1
    return "bar" if not isinstance(values, dict) and values.ndim == 1 + single else "signed"


def _titles(explanations: Sequence[Explanation], row: int) -> list[str]:
    """Name method, target and score; on two lines each when one is too long for one."""
    pairs = [(each.method, _found(each, row)) for each in explanations]
    long = any(len(method) + len(found) > TITLE for method, found in pairs)
    return [f"{method}\n{found}" if long else f"{method}: {found}" for method, found in pairs]


def _found(explanation: Explanation, row: int) -> str:
    label = row_of(explanation, explanation.label, row)
    index = row_of(explanation, explanation.target, row)
    score = row_of(explanation, explanation.score, row)
    return f"{label or f'output {index}'} {score:.3g}"


def _bar(axes: Any, explanation: Explanation, row: int, names: Sequence[str] | None) -> None:
    values = np.asarray(row_of(explanation, explanation.values, row)).ravel()
    if names is not None and len(names) != len(values):
        raise ArgumentError(f"names: {len(values)} are needed, not {len(names)}", "names")
    order = np.argsort(-np.abs(values))[:20][::-1]
    shown = [str(names[i]) if names is not None else f"feature {i}" for i in order]
    low, high = _pyplot().get_cmap(DIVERGING)([0.15, 0.85])
    axes.barh(shown, values[order], color=[high if values[i] > 0 else low for i in order])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("attribution")


def _traces(explanation: Explanation, given: Any, row: int, length: int) -> np.ndarray:
    """Find what to draw over a map of `length` places: (length, traces)."""
    shapes = [np.shape(each[row]) for each in explanation._inputs]
    found = np.asarray(given) if given is not None else None
    for i, shape in enumerate(shapes):
        if found is None and length in shape and len(shape) <= 2:
            found = np.asarray(explanation._inputs[i][row], np.float64)
    if found is None or found.ndim not in (1, 2) or length not in found.shape:
        raise ArgumentError(f"image: a signal of {length} places is needed", "image")
    if found.ndim == 1:
        return found[:, None]
    return found if found.shape[0] == length else found.T


def _signal(axes: Any, explanation: Explanation, given: Any, row: int, kind: str, how: Any) -> None:
    """Traces over time on the map's colours."""
    heat = np.asarray(row_of(explanation, explanation.map, row))
    length = len(heat)
    traces = _traces(explanation, given, row, length)
    signed = kind == "signed"
    if signed:
        if explanation.signed_map is None:
            raise UnsupportedError(f"'{explanation.method}' has no signed map", "signed")
        heat = np.asarray(row_of(explanation, explanation.signed_map, row))
    if how.smoothing > 0:
        heat = smooth(heat[None], how.smoothing)[0]
    reach = strongest(np.abs(heat)[None], how.percentile) or 1.0
    low, high = float(traces.min()), float(traces.max())
    margin = 0.05 * (high - low) or 1.0
    extent = (-0.5, length - 0.5, low - margin, high + margin)
    if kind != "image":
        drawn = axes.imshow(
            heat[None],
            cmap=DIVERGING if signed else POSITIVE,
            vmin=-reach if signed else 0,
            vmax=reach,
            alpha=how.alpha * np.clip(np.abs(heat)[None] / reach, 0, 1),
            extent=extent,
            aspect="auto",
        )
        _colour_bar(axes, drawn, how, signed)
    for i in range(traces.shape[1]):
        axes.plot(np.arange(length), traces[:, i], color=str(0.5 * i / traces.shape[1]))
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.set_xlabel("sample" if kind == "image" or heat.any() else "no positive evidence")


class Display(NamedTuple):
    """How maps are drawn: the options of :func:`plot`."""

    threshold: float
    alpha: float
    percentile: float
    smoothing: float

    def note(self) -> str:
        """Say what differs from the map, for the colour bar."""
        said = []
        if self.smoothing > 0:
            said.append(f"smoothed, {self.smoothing:g} pixels")
        if self.percentile < 100:
            said.append(f"cut at percentile {self.percentile:g}")
        return "; ".join(said)


def _colour_bar(axes: Any, drawn: Any, how: Display, signed: bool) -> None:
    cut = ("both" if signed else "max") if how.percentile < 100 else "neither"
    bar = axes.figure.colorbar(_opaque(drawn), ax=axes, shrink=0.8, extend=cut)
    bar.set_label("\n".join(filter(None, [AGAINST_FOR if signed else "evidence for", how.note()])))


def draw(
    axes: Any,
    explanation: Explanation,
    image: Any,
    row: int,
    kind: str,
    how: Display,
    spacing: tuple[float, float] | None,
    names: Sequence[str] | None,
) -> None:
    """Draw one explanation into matplotlib axes."""
    if kind == "bar":
        _bar(axes, explanation, row, names)
        return
    if _is_signal(explanation):
        if kind not in ("image", "signal", "signed"):
            raise UnsupportedError(f"'{kind}' is for pictures; this is a signal", "kind")
        _signal(axes, explanation, image, row, kind, how)
        return
    if kind == "signal":
        raise UnsupportedError(f"'{explanation.method}' gives no map over time", "signal")
    picture = picture_of(explanation, image, row)
    rows, columns = picture.shape[:2]
    across, along = (1.0, 1.0) if spacing is None else (float(spacing[0]), float(spacing[1]))
    extent = (0, columns * along, rows * across, 0)
    axes.imshow(picture, cmap="gray", extent=extent)
    if spacing is None:
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        axes.set_xlabel("mm")
    if kind == "image":
        return
    if kind == "signed":
        signed = smooth(signed_of(explanation, row), how.smoothing)
        reach = strongest(np.abs(signed), how.percentile) or 1.0
        strength = how.alpha * np.clip(np.abs(signed) / reach, 0, 1)
        drawn = axes.imshow(
            signed, cmap=DIVERGING, vmin=-reach, vmax=reach, alpha=strength, extent=extent
        )
        _colour_bar(axes, drawn, how, True)
        return
    heat = row_of(explanation, explanation.map, row)
    if heat is None or np.ndim(heat) != 2:
        raise UnsupportedError(f"'{explanation.method}' gives no map (H, W) of this input", "map")
    if not heat.max() > 0:
        axes.set_xlabel("no positive evidence")
    reach = 1.0
    if how.smoothing > 0 or how.percentile < 100:
        heat = smooth(heat, how.smoothing)
        reach = strongest(heat, how.percentile) or 1.0
    if kind == "overlay":
        strength = how.alpha * np.clip(heat / reach, 0, 1)
        drawn = axes.imshow(heat, cmap=POSITIVE, vmin=0, vmax=reach, alpha=strength, extent=extent)
        _colour_bar(axes, drawn, how, False)
    elif heat.max() >= how.threshold * reach > heat.min():
        x = (np.arange(heat.shape[1]) + 0.5) / heat.shape[1] * extent[1]
        y = (np.arange(heat.shape[0]) + 0.5) / heat.shape[0] * extent[2]
        level = how.threshold * reach
        axes.contour(x, y, heat, [level], colors=["#ffb000"], linewidths=1.5)
        if how.note():
            axes.set_xlabel(how.note())


def _opaque(drawn: Any) -> Any:
    """Make what a colour bar shows: the colours of an image without its transparency."""
    colours = importlib.import_module("matplotlib.cm")
    return colours.ScalarMappable(norm=drawn.norm, cmap=drawn.cmap)


def plot(
    explanations: Any,
    image: Any = None,
    *,
    row: int = 0,
    kind: str | None = None,
    threshold: float = 0.5,
    alpha: float = 0.6,
    percentile: float = 100.0,
    smoothing: float = 0.0,
    spacing: tuple[float, float] | None = None,
    names: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw explanations side by side.

    Parameters
    ----------
    explanations : Explanation or list of Explanation
        Several methods or targets of one input, for example.
    image : array, optional
        (H, W) or (H, W, 3) to draw on, (L,) or (L, traces) for signals; the explained input by
        default.
    row : int
        Row of the batch.
    kind : {"image", "overlay", "contour", "signed", "bar", "signal"}, optional
        "overlay": the map with a colour bar; "contour": its line at `threshold`; "signed": for
        and against in a diverging scale with zero in its middle; "bar": the attributions of a
        table; "signal": traces over time on the colours of the map. By default what the
        explanation has.
    threshold : float
        Of the contour, in (0, 1]: a share of where the colours are strongest.
    alpha : float
        Strength of the colour where the evidence is strongest; it fades with the evidence.
    percentile : float
        The colours are strongest from this percentile of the values above 0 on (of the absolute
        values for "signed"), in (0, 100]. Maps of pixels (integrated_gradients, deeplift, ...) are
        1 in a few pixels and small elsewhere: they are seen with ``percentile=99, smoothing=2``.
        The colour bar says so; the numbers of the explanation stay as they are.
    smoothing : float
        Standard deviation, in pixels of the map, of a Gaussian that smooths what is drawn.
    spacing : (float, float), optional
        Millimetres between the rows and columns of the image: axes in millimetres.
    names : list of str, optional
        Names of the features, for "bar".
    ax : matplotlib axes, or a list of them, optional

    Returns
    -------
    matplotlib figure
    """
    chosen = list(explanations) if isinstance(explanations, (list, tuple)) else [explanations]
    if not chosen:
        raise ArgumentError("explanations: an empty list", "explanations")
    if kind is not None and kind not in KINDS:
        raise ArgumentError(f"kind: {kind!r} is not one of {', '.join(KINDS)}", "kind")
    if not (0 < percentile <= 100 and 0 <= smoothing <= 1000):
        name = "smoothing" if 0 < percentile <= 100 else "percentile"
        raise ArgumentError(
            f"percentile: {percentile}, smoothing: {smoothing} are not in (0, 100] and [0, 1000]",
            name,
        )
    how = Display(threshold, alpha, percentile, smoothing)
    for each in chosen:
        if not 0 <= row < each._rows:
            raise ArgumentError(f"row: {row} is not in [0, {each._rows})", "row")
    if ax is None:
        count = len(chosen)
        _, made = _pyplot().subplots(
            1, count, figsize=(4.6 * count, 4.0), squeeze=False, layout="constrained"
        )
        axes = list(made[0])
    else:
        _pyplot()
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) != len(chosen):
        raise ArgumentError(f"ax: {len(chosen)} axes are needed, not {len(axes)}", "ax")
    for each, at, title in zip(chosen, axes, _titles(chosen, row)):
        at.set_title(title)
        draw(at, each, image, row, kind or _default(each), how, spacing, names)
    return axes[0].figure
