r"""Threshold and worst case on a GPU, by Triton programs that read each row once.

A program keeps its rows in registers until Newton's steps have found their thresholds. Each program
takes as many steps as its rows need. Rows of more than `LONGEST` classes are too long for that: the
classes that may be on the support are stored in scratch memory instead.

The gradient is a second, elementwise program. It needs three numbers of each row: the largest
margin, the threshold minus that margin, and the sum :math:`\sum_k h_k^{1-q}`. So margins and
gradients in half precision stay in half precision in memory, and are computed in float32.

With small batches, the time goes to the host and not to the GPU. So there is no PyTorch operation
for a mean or a sum of losses. Every program adds up the losses of its own rows. One more program
adds up these parts, always in the same order, and writes the weight of a row in the mean, which the
program of the gradient reads.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements that one program holds at a time, and the largest number of classes of a row that it
# holds whole.
TILE = 1024
LONGEST = 2048

# For longer rows: elements read at a time, warps (of 32 threads) of a program, and programs for
# each multiprocessor.
CHUNK, WARPS, PROGRAMS = 1024, 2, 16

# Classes of a row that one program of the gradient writes.
WRITTEN = 2048

# Newton's method ends when steps are smaller than this many units in the last place of 1.
LAST_PLACES = 4.0

# Most steps of Newton's method: more than the slowest rows need, see `link.newton_steps`.
MOST_STEPS = 20

PRECISIONS = {
    torch.float16: tl.float32,
    torch.bfloat16: tl.float32,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}


@triton.jit
def _powers(difference, Q: tl.constexpr):
    """Return u = h^(1-q) and z = h^q from margins - psi, for q > 0. Both are 0 off the support."""
    z = 1.0 + Q * difference
    inside = z > 0.0
    z = tl.where(inside, z, 0.0)
    if Q == 1.0:
        u = tl.where(inside, z * 0.0 + 1.0, 0.0)
    elif Q == 0.5:
        u = z
    else:
        safe = tl.where(inside, z, 1.0)
        logarithm = tl.log2(safe)
        if Q < 0.25:  # correct for the rounding of 1 + q d, which is divided by q below
            given = tl.where(inside, Q * difference, 0.0)
            rounded = safe - 1.0
            logarithm *= tl.where(rounded == 0.0, 1.0, given / rounded)
        u = tl.where(inside, tl.exp2((1.0 - Q) / Q * logarithm), 0.0)
    return u, z


@triton.jit
def _direction(total, slope, Q: tl.constexpr):
    """Return Newton's step on the norm of z, see `link.newton_direction`."""
    logarithm = tl.log(total)
    w = Q * logarithm
    return total / slope * logarithm / (1.0 + w * (0.5 + w / 12.0))


@triton.jit
def _store_part(sums, part, count):
    """Write the sum of the losses of a program, and their number, for `_total`."""
    place = 1 + tl.program_id(0)
    tl.store(sums + place, part)
    tl.store(sums + tl.num_programs(0) + place, count)


@triton.jit
def _short_rows(
    margins, labels, kept, loss, n_rows, n_classes, ignored,
    Q: tl.constexpr, HIGH: tl.constexpr, SMALL: tl.constexpr, MOST: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, DTYPE: tl.constexpr, LABELED: tl.constexpr,
    SUMMED: tl.constexpr,
):  # fmt: skip
    """Find the thresholds of ROWS rows of at most BLOCK classes."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BLOCK)
    here = rows < n_rows
    there = here[:, None] & (columns < n_classes)[None, :]
    place = rows[:, None] * n_classes + columns[None, :]
    m = tl.load(margins + place, mask=there, other=float("-inf")).to(DTYPE)
    top = tl.max(m, axis=1)
    unusable = (tl.max((m != m).to(tl.int32), axis=1) > 0) | (tl.abs(top) == float("inf"))
    x = m - tl.where(unusable, 0.0, top)[:, None]
    if Q == 0.0:
        t = tl.log(tl.sum(tl.exp(x), axis=1))
        slope = t * 0.0 + 1.0
    else:
        mean = tl.sum(tl.where(there, x, 0.0), axis=1) / n_classes
        t = tl.maximum(mean + HIGH, 0.0)
        step = 0
        change = 1.0
        while (step < MOST) & (change > SMALL):
            u, z = _powers(x - t[:, None], Q)
            direction = _direction(tl.sum(u * z, axis=1), tl.sum(u, axis=1), Q)
            after = tl.minimum(tl.maximum(t + direction, 0.0), HIGH)
            change = tl.max(tl.where(unusable, 0.0, tl.abs(after - t)), axis=0).to(tl.float32)
            t = after
            step += 1
        u, z = _powers(x - t[:, None], Q)
        slope = tl.sum(u, axis=1)
    t = tl.where(unusable, float("nan"), t)
    tl.store(kept + rows, top, mask=here)
    tl.store(kept + n_rows + rows, t, mask=here)
    tl.store(kept + 2 * n_rows + rows, slope, mask=here)
    if LABELED:
        label = tl.load(labels + rows, mask=here, other=0)
        known = (label >= 0) & (label < n_classes)
        own = tl.load(margins + rows * n_classes + label, mask=here & known, other=0.0).to(DTYPE)
        value = tl.where(known, t - (own - top), float("nan"))
        taken = here & (label != ignored)
        value = tl.where(taken, value, 0.0)
        if SUMMED:
            _store_part(loss, tl.sum(value, axis=0), tl.sum(taken.to(DTYPE), axis=0))
        else:
            tl.store(loss + rows, value, mask=here)


@triton.jit
def _long_rows(
    margins, labels, kept, loss, scratch, n_rows, n_classes, ignored,
    Q: tl.constexpr, HIGH: tl.constexpr, SMALL: tl.constexpr, MOST: tl.constexpr,
    BLOCK: tl.constexpr, DTYPE: tl.constexpr, LABELED: tl.constexpr, SUMMED: tl.constexpr,
):  # fmt: skip
    """Find the thresholds of some rows, one after the other, reading BLOCK classes at a time."""
    lanes = tl.arange(0, BLOCK)
    candidates = scratch + tl.program_id(0).to(tl.int64) * n_classes
    part = tl.full([], 0.0, DTYPE)
    count = tl.full([], 0.0, DTYPE)
    for row in range(tl.program_id(0), n_rows, tl.num_programs(0)):
        own_row = margins + (tl.full([], 0, tl.int64) + row) * n_classes
        best = tl.full([BLOCK], float("-inf"), DTYPE)
        total = tl.full([BLOCK], 0.0, DTYPE)
        odd = tl.full([BLOCK], 0, tl.int32)
        for start in range(0, n_classes, BLOCK):
            there = start + lanes < n_classes
            m = tl.load(own_row + start + lanes, mask=there, other=float("-inf")).to(DTYPE)
            best = tl.maximum(best, m)
            total += tl.where(there, m, 0.0)
            odd = tl.maximum(odd, (m != m).to(tl.int32))
        top = tl.max(best, axis=0)
        unusable = (tl.max(odd, axis=0) > 0) | (tl.abs(top) == float("inf"))
        origin = tl.where(unusable, 0.0, top)
        if Q == 0.0:
            total = tl.full([BLOCK], 0.0, DTYPE)
            for start in range(0, n_classes, BLOCK):
                there = start + lanes < n_classes
                m = tl.load(own_row + start + lanes, mask=there, other=float("-inf")).to(DTYPE)
                total += tl.exp(m - origin)
            t = tl.log(tl.sum(total, axis=0))
            slope = t * 0.0 + 1.0
        else:
            t = tl.maximum(tl.sum(total, axis=0) / n_classes - origin + HIGH, 0.0)
            t = tl.minimum(tl.where(unusable, 0.0, t), HIGH)
            n_kept = 0
            for start in range(0, n_classes, BLOCK):
                there = start + lanes < n_classes
                m = tl.load(own_row + start + lanes, mask=there, other=float("-inf")).to(DTYPE)
                x = m - origin
                # A class off the support at t is off it at the end: the threshold is at least t.
                possible = (1.0 + Q * (x - t) > 0.0) & there
                n_possible = tl.sum(possible.to(tl.int32), axis=0)
                if n_possible > 0:
                    index = n_kept + tl.cumsum(possible.to(tl.int32), axis=0) - 1
                    tl.store(candidates + index, x, mask=possible)
                n_kept += n_possible
            tl.debug_barrier()
            step = 0
            change = 1.0
            slope = t * 0.0
            # The last pass, after the last step, computes the slope alone.
            while step <= MOST:
                norm = tl.full([BLOCK], 0.0, DTYPE)
                power = tl.full([BLOCK], 0.0, DTYPE)
                for start in range(0, n_kept, BLOCK):
                    x = tl.load(
                        candidates + start + lanes, mask=start + lanes < n_kept,
                        other=float("-inf"),
                    )  # fmt: skip
                    u, z = _powers(x - t, Q)
                    norm += u * z
                    power += u
                slope = tl.sum(power, axis=0)
                if change > SMALL:
                    after = t + _direction(tl.sum(norm, axis=0), slope, Q)
                    after = tl.minimum(tl.maximum(after, 0.0), HIGH)
                    change = tl.where(unusable, 0.0, tl.abs(after - t)).to(tl.float32)
                    t = after
                    step += 1
                else:
                    step = MOST + 1
            tl.debug_barrier()
        t = tl.where(unusable, float("nan"), t)
        tl.store(kept + row, top)
        tl.store(kept + n_rows + row, t)
        tl.store(kept + 2 * n_rows + row, slope)
        if LABELED:
            label = tl.load(labels + row)
            known = (label >= 0) & (label < n_classes)
            own = tl.load(own_row + label, mask=known, other=0.0).to(DTYPE)
            value = tl.where(known, t - (own - top), float("nan"))
            value = tl.where(label != ignored, value, 0.0)
            if SUMMED:
                part += value
                count += (label != ignored).to(DTYPE)
            else:
                tl.store(loss + row, value)
    if SUMMED:
        _store_part(loss, part, count)


@triton.jit
def _total(sums, value, n_parts, MEAN: tl.constexpr, BLOCK: tl.constexpr):
    """Write the sum or the mean of all losses, and before the parts the weight of a row in it."""
    lanes = tl.arange(0, BLOCK)
    total = tl.full([BLOCK], 0.0, value.dtype.element_ty)
    count = tl.full([BLOCK], 0.0, value.dtype.element_ty)
    for start in range(0, n_parts, BLOCK):
        there = start + lanes < n_parts
        total += tl.load(sums + 1 + start + lanes, mask=there, other=0.0)
        count += tl.load(sums + 1 + n_parts + start + lanes, mask=there, other=0.0)
    n = tl.maximum(tl.sum(count, axis=0), 1.0) if MEAN else 1.0
    tl.store(value, tl.sum(total, axis=0) / n)
    tl.store(sums, 1.0 / n)


@triton.jit
def _worst_case(
    margins, labels, kept, factor, sums, out, n_rows, n_classes, ignored, stride,
    Q: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, DTYPE: tl.constexpr,
    LABELED: tl.constexpr, SUMMED: tl.constexpr,
):  # fmt: skip
    """Write p*, or with labels p* - onehot(label) times the factor of the row."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here = rows < n_rows
    there = here[:, None] & (columns < n_classes)[None, :]
    place = rows[:, None] * n_classes + columns[None, :]
    m = tl.load(margins + place, mask=there, other=float("-inf")).to(DTYPE)
    top = tl.load(kept + rows, mask=here, other=0.0)
    t = tl.load(kept + n_rows + rows, mask=here, other=0.0)
    slope = tl.load(kept + 2 * n_rows + rows, mask=here, other=1.0)
    difference = (m - top[:, None]) - t[:, None]
    if Q == 0.0:
        p = tl.exp(difference)
    else:
        p = tl.where((t == t)[:, None], 0.0, difference)
        # If there are many classes, few are on the support, and most tiles need no powers.
        if tl.max(tl.max((1.0 + Q * difference > 0.0).to(tl.int32), axis=1), axis=0) > 0:
            u, _ = _powers(difference, Q)
            p = tl.where((t == t)[:, None], u / slope[:, None], p)
    if LABELED:
        label = tl.load(labels + rows, mask=here, other=0)
        scale = tl.load(factor + rows * stride, mask=here, other=0.0).to(DTYPE)
        if SUMMED:
            scale *= tl.load(sums)
        p = (p - (columns[None, :] == label[:, None]).to(DTYPE)) * scale[:, None]
        p = tl.where((label == ignored)[:, None], 0.0, p)
    tl.store(out + place, p.to(out.dtype.element_ty), mask=there)


def threshold(
    margins: Tensor,
    q: float,
    labels: Tensor | None = None,
    ignored: int = -1,
    summed: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return three numbers of every row, and the loss psi(m) - m_y if there are labels.

    Parameters
    ----------
    margins : Tensor of shape (..., K)
        Contiguous, on a GPU, in any floating-point precision.
    q : float in [0, 1]
        Loss parameter.
    labels : Tensor of shape (...), default=None
        Contiguous 64-bit integers. The loss is NaN if a label is not a class.
    ignored : int, default=-1
        Label whose loss is 0.
    summed : bool, default=False
        Whether to add up the losses of each program.

    Returns
    -------
    kept : Tensor of shape (3, n)
        The largest margin, psi minus that margin, and the sum of h^(1-q). The second is NaN if
        margins contain NaN or inf.
    loss : Tensor of shape (...), or (1 + 2 n_programs,) if summed
        Undefined without labels. If summed: space for the weight of a row, then the sums of the
        programs, then the numbers of rows in them.
    """
    n_classes = margins.shape[-1]
    n_rows = margins.numel() // n_classes
    settings = _settings(q, n_classes, margins.dtype)
    block = _power_of_2(n_classes)
    rows, warps = _tile(block)
    if block <= LONGEST:
        n_programs = -(-n_rows // rows)
    else:
        n_programs = min(n_rows, PROGRAMS * _n_processors(margins.device))
    precise = _precise(margins.dtype)
    kept = margins.new_empty((3, n_rows), dtype=precise)
    shape = (1 + 2 * n_programs,) if summed else margins.shape[:-1]
    loss = kept if labels is None else margins.new_empty(shape, dtype=precise)
    targets = (margins, margins if labels is None else labels, kept, loss)
    flags = {"LABELED": labels is not None, "SUMMED": summed}
    if not n_rows:
        pass
    elif block <= LONGEST:
        _short_rows[(n_programs,)](
            *targets, n_rows, n_classes, ignored, ROWS=rows, BLOCK=block, num_warps=warps,
            **flags, **settings,
        )  # fmt: skip
    else:
        scratch = kept.new_empty((n_programs, n_classes) if q > 0.0 else 0)
        _long_rows[(n_programs,)](
            *targets, scratch, n_rows, n_classes, ignored, BLOCK=CHUNK, num_warps=WARPS,
            **flags, **settings,
        )  # fmt: skip
    return kept, loss


def reduced(
    margins: Tensor, q: float, labels: Tensor, ignored: int, mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``kept`` and the sums of `threshold`, and the mean or sum () of all losses.

    The result is deterministic, because the order of additions is always the same.
    """
    kept, sums = threshold(margins, q, labels, ignored, summed=True)
    value = sums.new_empty(())
    _total[(1,)](sums, value, len(sums) // 2, MEAN=mean, BLOCK=TILE)
    return kept, sums, value


def worst_case(margins: Tensor, q: float, kept: Tensor) -> Tensor:
    """Return p* (..., K), in float32 or float64, from margins and ``kept`` of `threshold`."""
    out = torch.empty_like(margins, dtype=kept.dtype)
    return _written(margins, q, kept, out)


def gradient(
    margins: Tensor,
    q: float,
    kept: Tensor,
    labels: Tensor,
    ignored: int,
    factor: Tensor,
    sums: Tensor | None = None,
) -> Tensor:
    """Return ``factor`` times p* - onehot(y), (..., K) in the precision of the margins.

    The factor is of shape (n,), one for every row. With ``sums``, it is of shape (), and is
    multiplied by the weight of a row that `reduced` wrote there.
    """
    return _written(margins, q, kept, torch.empty_like(margins), labels, ignored, factor, sums)


def _written(
    margins: Tensor,
    q: float,
    kept: Tensor,
    out: Tensor,
    labels: Tensor | None = None,
    ignored: int = -1,
    factor: Tensor | None = None,
    sums: Tensor | None = None,
) -> Tensor:
    n_rows, n_classes = kept.shape[1], margins.shape[-1]
    if not n_rows:
        return out
    block = min(_power_of_2(n_classes), WRITTEN)
    rows, warps = _tile(block)
    _worst_case[(-(-n_rows // rows), -(-n_classes // block))](
        margins,
        margins if labels is None else labels,
        kept,
        kept if factor is None else factor,
        kept if sums is None else sums,
        out,
        n_rows,
        n_classes,
        ignored,
        0 if factor is None or sums is not None else factor.stride(0),
        Q=q,
        ROWS=rows,
        BLOCK=block,
        DTYPE=PRECISIONS[margins.dtype],
        LABELED=labels is not None,
        SUMMED=sums is not None,
        num_warps=warps,
    )
    return out


@functools.lru_cache(maxsize=64)
def _settings(q: float, n_classes: int, dtype: torch.dtype) -> dict[str, Any]:
    """Return the constants of the programs that find thresholds.

    They are cached, because computing them takes a noticeable part of the time of a small batch.
    """
    return {
        "Q": q,
        "HIGH": math.log(n_classes) if q == 0.0 else -math.expm1(-q * math.log(n_classes)) / q,
        "SMALL": LAST_PLACES * torch.finfo(_precise(dtype)).eps,
        "MOST": MOST_STEPS,
        "DTYPE": PRECISIONS[dtype],
    }


def _precise(dtype: torch.dtype) -> torch.dtype:
    """Return the precision to compute in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _power_of_2(n: int) -> int:
    """Return the smallest power of 2 that is at least n, without the overhead of Triton's own."""
    return 1 << (n - 1).bit_length()


def _tile(block: int) -> tuple[int, int]:
    """Return the numbers of rows and of warps of a program, for rows of ``block`` elements."""
    rows = max(1, TILE // block)
    return rows, min(max(rows * block // 512, 1), 16)


def _n_processors(device: torch.device) -> int:
    if device.type != "cuda":  # Triton's interpreter
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count
