"""The projection plane, and path lengths (cm) through simple bodies.

Coordinates are the patient's, in cm: x towards the right edge of the picture, y downwards, z along the
beam. A function here returns, for every pixel, how many centimetres of a body the beam crosses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]


class Frame:
    """A square detector of `size` pixels and `field` cm, turned by `angle` and moved by (dx, dy)."""

    def __init__(self, size: int, field: float, angle: float = 0.0, dx: float = 0.0, dy: float = 0.0):
        self.size, self.pixel = size, field / size
        self._cos, self._sin, self._dx, self._dy = np.cos(angle), np.sin(angle), dx, dy
        u = (np.arange(size) + 0.5) * self.pixel - field / 2
        column, row = np.meshgrid(u, u)
        self.x: Array = (self._cos * column + self._sin * row - dx).astype(np.float32)
        self.y: Array = (-self._sin * column + self._cos * row - dy).astype(np.float32)

    def step(self, signed: ArrayLike, width: float = 0.0) -> Array:
        """0 to 1 where `signed` (cm) turns positive, over `width` cm but at least one pixel."""
        value = np.asarray(signed, np.float32)
        return np.clip(value / max(width, self.pixel) + 0.5, 0, 1).astype(np.float32)

    def window(self, centre: tuple[float, float], reach: float) -> tuple[slice, slice]:
        """Rows and columns that hold every pixel within `reach` cm of a point."""
        x, y = centre[0] + self._dx, centre[1] + self._dy
        column = (self._cos * x - self._sin * y) / self.pixel + self.size / 2
        row = (self._sin * x + self._cos * y) / self.pixel + self.size / 2
        half = reach / self.pixel + 1
        low, high = (np.clip([row + d, column + d], 0, self.size).astype(int) for d in (-half, half + 1))
        return slice(low[0], high[0]), slice(low[1], high[1])

    def deposit(self, x: ArrayLike, y: ArrayLike, weight: ArrayLike) -> Array:
        """Spread point weights over the four nearest pixels."""
        x, y = np.asarray(x) + self._dx, np.asarray(y) + self._dy
        column = (self._cos * x - self._sin * y) / self.pixel + self.size / 2 - 0.5
        row = (self._sin * x + self._cos * y) / self.pixel + self.size / 2 - 0.5
        c0, r0 = np.floor(column).astype(int), np.floor(row).astype(int)
        fc, fr = column - c0, row - r0
        out = np.zeros(self.size * self.size)
        for dr, dc in ((0, 0), (0, 1), (1, 0), (1, 1)):
            r, c = r0 + dr, c0 + dc
            share = weight * np.abs(1 - dr - fr) * np.abs(1 - dc - fc)
            inside = (r >= 0) & (r < self.size) & (c >= 0) & (c < self.size)
            index = (r * self.size + c)[inside]
            out += np.bincount(index, share[inside], self.size * self.size)
        return out.reshape(self.size, self.size).astype(np.float32)

    def tubes(self, curves: list[Array], half_width: float, half_height: float) -> Array:
        """Bones or vessels of one elliptic cross-section along curves (k, 3).

        The path length is large where a curve runs along the beam, as ribs do at the side of the chest.
        """
        x, y, length = (np.concatenate(part) for part in zip(*map(along, curves), strict=True))
        thickness = self.deposit(x, y, length * np.pi * half_width * half_height / self.pixel**2)
        return smear(thickness, ball(half_width / self.pixel, half_height / self.pixel))


def along(curve: Array) -> tuple[Array, Array, Array]:
    """Middle points and lengths of the pieces of a curve (k, 3)."""
    middle = (curve[1:] + curve[:-1]) / 2
    return middle[:, 0], middle[:, 1], np.linalg.norm(np.diff(curve, axis=0), axis=1)


def ball(rx: float, ry: float) -> Array:
    """The shadow of an ellipsoid with radii in pixels, sum 1, averaged over 5x5 points a pixel."""
    nx, ny = int(np.ceil(rx)) + 1, int(np.ceil(ry)) + 1
    fine = 5
    x = (np.arange((2 * nx + 1) * fine) - (2 * nx + 1) * fine / 2 + 0.5) / fine
    y = (np.arange((2 * ny + 1) * fine) - (2 * ny + 1) * fine / 2 + 0.5) / fine
    shadow = np.sqrt(np.clip(1 - (x[None] / max(rx, 0.3)) ** 2 - (y[:, None] / max(ry, 0.3)) ** 2, 0, 1))
    shadow = shadow.reshape(2 * ny + 1, fine, 2 * nx + 1, fine).mean((1, 3))
    return (shadow / shadow.sum()).astype(np.float32)


def smear(image: Array, kernel: Array) -> Array:
    """Convolution by Fourier transform; nothing wraps round."""
    height, width = image.shape
    kh, kw = kernel.shape
    shape = (height + kh - 1, width + kw - 1)
    product = np.fft.rfft2(image, shape) * np.fft.rfft2(kernel, shape)
    full = np.fft.irfft2(product, shape)
    return full[kh // 2 : kh // 2 + height, kw // 2 : kw // 2 + width].astype(np.float32)


def blur(image: Array, sigma: float) -> Array:
    """Gaussian blur, sigma in pixels; the edge is repeated outwards."""
    if sigma < 0.05:
        return image
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        length = padded.shape[axis]
        spectrum = np.fft.rfft(padded, length, axis=axis)
        response = np.fft.rfft(np.roll(np.pad(taps, (0, length - taps.size)), -reach))
        shape = [-1 if a == axis else 1 for a in (0, 1)]
        smooth = np.fft.irfft(spectrum * response.reshape(shape), length, axis=axis)
        image = smooth.take(np.arange(reach, length - reach), axis=axis)
    return image.astype(np.float32)


def ellipsoid(frame: Frame, centre: tuple[float, float], radii: tuple[float, float, float], tilt: float = 0.0) -> Array:
    """Path length through an ellipsoid with radii (x, y, z), turned by `tilt` in the picture."""
    window = frame.window(centre, max(radii[0], radii[1]))
    dx, dy = frame.x[window] - centre[0], frame.y[window] - centre[1]
    u = (np.cos(tilt) * dx + np.sin(tilt) * dy) / radii[0]
    v = (-np.sin(tilt) * dx + np.cos(tilt) * dy) / radii[1]
    path = np.zeros_like(frame.x)
    path[window] = 2 * radii[2] * np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
    return path


def cloud(rng: np.random.Generator, size: int, slope: float, longest: float = 1.0) -> Array:
    """Noise with a power spectrum 1/f^slope, mean 0 and standard deviation 1.

    Waves longer than `longest` (in picture sides) are left out.
    """
    fy, fx = np.fft.fftfreq(size)[:, None] * size, np.fft.rfftfreq(size)[None] * size
    frequency = np.hypot(fy, fx)
    amplitude = np.where(frequency >= 1 / longest, np.maximum(frequency, 1) ** (-slope / 2), 0)
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * amplitude
    noise = np.fft.irfft2(spectrum, (size, size))
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)
