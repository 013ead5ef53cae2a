"""Scalar logarithms and exponentials that a compiler can vectorize.

The functions of libm are opaque calls: a loop around them runs one element at a time, at
5 to 20 ns each. Those below are some twenty additions, products and selections without a
branch or a call, so LLVM turns a loop over contiguous arrays into vector instructions, at
about 0.5 ns an element where a vector holds eight doubles.

How to use them: call them from a ``jit`` kernel, in the innermost loop, over contiguous
arrays, with sums kept in arrays (without fastmath a scalar accumulator would forbid the
reordering that vectors need)::

    for k in range(n_classes):
        for lane in range(n_lanes):
            power = exp2(exponent * log2_1p(x[k, lane]))
            total[lane] += power

========================  =============================  ==============================
function                  argument                       relative error
========================  =============================  ==============================
``exp2(x)``               any; 0 below -1022             3e-16
``exp2m1(x)``             any; inf from 1023             4e-16, also near 0
``log2(x)``               positive, not subnormal        4e-16, also near 1
``log2_1p(y)``            above -1                       4e-16, also near 0
``exp2_single(x)``        any; 0 below -126              3e-7
``log2_1p_single(y)``     above -1                       3e-7, also near 0
========================  =============================  ==============================

NaN gives NaN, and an overflow infinity. The logarithm of zero is -inf; so is that of a
negative or subnormal number, so that ``exp2(exponent * log2_1p(y))`` with a positive
exponent is the power of the *positive part* of 1 + y.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types

from mgce_sklearn.kernels.compilation import jit

# Called with the arguments after the first, which is its compiler's: its types do not know.
intrinsic: Any = extending.intrinsic

LN2 = float(np.log(2.0))
LOG2E = 1.0 / LN2


@intrinsic
def polynomial(typing_context: Any, x: Any, coefficients: Any) -> Any:
    """Evaluate a polynomial, constant coefficient first, by Estrin's scheme.

    Neighbors are joined as c₀ + c₁x, then those pairs with x², and so on: as many steps
    as Horner's rule, but a chain of log₂ their number. The chain is what bounds the speed
    of a long loop body. An intrinsic, because it calls
    ``llvm.fmuladd``, fused where the processor can; numba alone never fuses.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        power, packed = args
        ternary = ir.FunctionType(power.type, 3 * [power.type])
        fmuladd = builder.module.declare_intrinsic("llvm.fmuladd", [power.type], ternary)
        terms = [builder.extract_value(packed, i) for i in range(len(coefficients))]
        while len(terms) > 1:
            pairs = zip(terms[::2], terms[1::2], strict=False)
            joined = [builder.call(fmuladd, (power, high, low)) for low, high in pairs]
            terms = joined + (terms[-1:] if len(terms) % 2 else [])
            power = builder.fmul(power, power)
        return terms[0]

    if isinstance(coefficients, types.UniTuple) and coefficients.dtype == x:
        return x(x, coefficients), codegen
    return None


_UNSIGNED = {types.float64: types.uint64, types.float32: types.uint32}
_FLOATING = {unsigned: floating for floating, unsigned in _UNSIGNED.items()}


def _bitcast(source: Any, target: Any) -> Any:
    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.bitcast(args[0], context.get_value_type(target))

    return target(source), codegen


@intrinsic
def to_bits(typing_context: Any, x: Any) -> Any:
    """Read the bits of a float as an unsigned integer of the same width."""
    return _bitcast(x, _UNSIGNED[x]) if x in _UNSIGNED else None


@intrinsic
def from_bits(typing_context: Any, bits: Any) -> Any:
    """Read the bits of an unsigned integer as a float of the same width."""
    return _bitcast(bits, _FLOATING[bits]) if bits in _FLOATING else None


# ---------------------------------------------------------------------------------------
# Double precision. A double is 1 sign bit, 11 of exponent (biased by 1023), 52 of mantissa.
# ---------------------------------------------------------------------------------------

# 2^r on [-1/2, 1/2] to 9e-18: (2^r - 1)/r interpolated at Chebyshev nodes.
_EXP2 = (
    1.0,
    0.6931471805599453,
    0.24022650695910097,
    0.0555041086648216,
    0.009618129107606888,
    0.0013333558146416936,
    0.0001540353044173605,
    1.525273382983612e-05,
    1.321544258792169e-06,
    1.0178062445845774e-07,
    7.072585949269223e-09,
    4.4549605981865186e-10,
)

# log2(mantissa) = s P(s²) with s = (mantissa - 1)/(mantissa + 1), from
# log(x) = 2 artanh((x - 1)/(x + 1)); P to 2e-18 on s² <= (3 - 2√2)², same method.
_LOG2 = (
    2.8853900817779268,
    0.9617966939259899,
    0.5770780163454586,
    0.41219858585486296,
    0.3205985334227465,
    0.2623344335728468,
    0.2209109142370262,
    0.21368163909696675,
)

# Adding 1.5 * 2^52 rounds a double to an integer and leaves that integer in its low bits.
# Unlike a conversion instruction, this vectorizes on every processor.
_ROUND = 1.5 * 2.0**52
_BITS_ROUND = np.float64(2.0**52).view(np.uint64)
_BITS_ONE = np.float64(1.0).view(np.uint64)
_BITS_SQRT_HALF = np.float64(np.sqrt(0.5)).view(np.uint64)
_BITS_EXPONENT = np.uint64(0xFFF0000000000000)
_MANTISSA_WIDTH = np.uint64(52)
_UNBIAS = 2.0**52 + 1023.0
_TINY = 2.0**-1022


@jit
def exp2(x: float) -> float:
    """Compute 2^x: 2^round(x), as exponent bits, times a polynomial in the remainder."""
    shifted = x + _ROUND
    power = polynomial(x - (shifted - _ROUND), _EXP2)
    scaled = from_bits(to_bits(power) + (to_bits(shifted) << _MANTISSA_WIDTH))
    result = scaled if x < 1024.0 else np.inf
    result = result if x >= -1022.0 else 0.0
    return result if x == x else x


@jit
def exp2m1(x: float) -> float:
    """Compute 2^x - 1, accurate near x = 0.

    With x = n + r the sum 2^n (2^r - 1) + (2^n - 1) does not cancel: for n = 0 its second
    term is zero, and for other n the result is far from zero.
    """
    shifted = x + _ROUND
    r = x - (shifted - _ROUND)
    scale = from_bits(_BITS_ONE + (to_bits(shifted) << _MANTISSA_WIDTH))
    exact = scale * (r * polynomial(r, _EXP2[1:])) + (scale - 1.0)
    result = exact if x < 1023.0 else np.inf
    result = result if x >= -1022.0 else -1.0
    return result if x == x else x


@jit
def log2(x: float) -> float:
    """Compute log2(x) for x >= 0; -inf for subnormal x, as for 0."""
    return _log2_of_sum(x, 0.0)


@jit
def log2_1p(y: float) -> float:
    """Compute log2(1 + y) for y >= -1, accurate near y = 0.

    The sum z = 1 + y is rounded; what it lost, y - (z - 1), goes into the logarithm too.
    """
    z = 1.0 + y
    return _log2_of_sum(z, y - (z - 1.0))


@jit
def _log2_of_sum(z: float, low: float) -> float:
    """Compute log2(z + low), where low is below the last digit of z.

    With z = 2^e (1 + f) and 1 + f in [√½, √2): e + log2(1 + f). Subtracting √½ from the
    bits of z before reading its exponent is what centers that interval on 1.
    """
    bits = to_bits(z)
    offset = bits + (_BITS_ONE - _BITS_SQRT_HALF)
    exponent_bits = (offset & _BITS_EXPONENT) - _BITS_ONE
    exponent = from_bits((offset >> _MANTISSA_WIDTH) | _BITS_ROUND) - _UNBIAS
    inverse_scale = from_bits(_BITS_ONE - exponent_bits)
    f = (from_bits(bits - exponent_bits) - 1.0) + low * inverse_scale
    s = f / (2.0 + f)
    result = exponent + s * polynomial(s * s, _LOG2)
    result = result if z >= _TINY else -np.inf
    result = result if z < np.inf else z
    return result if z == z else z


# ---------------------------------------------------------------------------------------
# Single precision: the same, for the first steps of an iteration that ends in double.
# A float is 1 sign bit, 8 of exponent (biased by 127), 23 of mantissa.
# ---------------------------------------------------------------------------------------

_EXP2_SINGLE = tuple(
    np.float32(c)
    for c in (
        1.0,
        0.6931471805599453,
        0.2402234903802036,
        0.05550381013796457,
        0.009666368515385448,
        0.0013381302537320797,
    )
)
_LOG2_SINGLE = tuple(
    np.float32(c) for c in (2.885390422995362, 0.9615885239635291, 0.5957787816766621)
)
_ONE_SINGLE = np.float32(1.0)
_TWO_SINGLE = np.float32(2.0)
_ZERO_SINGLE = np.float32(0.0)
_INF_SINGLE = np.float32(np.inf)
_ROUND_SINGLE = np.float32(1.5 * 2.0**23)
_BITS_ROUND_SINGLE = np.float32(2.0**23).view(np.uint32)
_BITS_ONE_SINGLE = np.float32(1.0).view(np.uint32)
_BITS_SQRT_HALF_SINGLE = np.float32(np.sqrt(0.5)).view(np.uint32)
_BITS_EXPONENT_SINGLE = np.uint32(0xFF800000)
_MANTISSA_WIDTH_SINGLE = np.uint32(23)
_UNBIAS_SINGLE = np.float32(2.0**23 + 127.0)
_TINY_SINGLE = np.float32(2.0**-126)
_LOWEST_SINGLE = np.float32(-126.0)
_HIGHEST_SINGLE = np.float32(128.0)


@jit
def exp2_single(x: np.float32) -> Any:
    """Compute 2^x in single precision, as `exp2` does."""
    shifted = x + _ROUND_SINGLE
    power = polynomial(x - (shifted - _ROUND_SINGLE), _EXP2_SINGLE)
    bits = to_bits(shifted) << _MANTISSA_WIDTH_SINGLE
    scaled = from_bits(np.uint32(to_bits(power) + bits))
    result = scaled if x < _HIGHEST_SINGLE else _INF_SINGLE
    result = result if x >= _LOWEST_SINGLE else _ZERO_SINGLE
    return result if x == x else x


@jit
def log2_1p_single(y: np.float32) -> Any:
    """Compute log2(1 + y) in single precision, as `log2_1p` does."""
    z = _ONE_SINGLE + y
    low = y - (z - _ONE_SINGLE)
    bits = to_bits(z)
    offset = np.uint32(bits + (_BITS_ONE_SINGLE - _BITS_SQRT_HALF_SINGLE))
    exponent_bits = np.uint32((offset & _BITS_EXPONENT_SINGLE) - _BITS_ONE_SINGLE)
    biased = np.uint32((offset >> _MANTISSA_WIDTH_SINGLE) | _BITS_ROUND_SINGLE)
    exponent = from_bits(biased) - _UNBIAS_SINGLE
    inverse_scale = from_bits(np.uint32(_BITS_ONE_SINGLE - exponent_bits))
    reduced = from_bits(np.uint32(bits - exponent_bits))
    f = (reduced - _ONE_SINGLE) + low * inverse_scale
    s = f / (_TWO_SINGLE + f)
    result = exponent + s * polynomial(s * s, _LOG2_SINGLE)
    result = result if z >= _TINY_SINGLE else -_INF_SINGLE
    result = result if z < _INF_SINGLE else z
    return result if z == z else z
