"""Products with mean C_i ⊗ x_i x_iᵀ, and its blocks, from the curvatures C_i of single rows.

C holds C_kl for k <= l, row by row of the upper triangle, one column a row of X.
"""

from __future__ import annotations

from mgce_sklearn.kernels.compilation import jit

# Iterations of the fixed point, and a lower limit for 1 - v_k / sum v in it.
ROUNDS = 5
LEAST_REST = 0.2


@jit
def multiply(curvature, margins, out):
    """Write C_i m_i of some rows: curvature (pairs, rows), margins and out (C, rows)."""
    n_classes, n_rows = margins.shape
    out[:] = 0.0
    pair = 0
    for k in range(n_classes):
        for i in range(n_rows):
            out[k, i] += curvature[pair, i] * margins[k, i]
        pair += 1
        for other in range(k + 1, n_classes):
            for i in range(n_rows):
                c = curvature[pair, i]
                out[k, i] += c * margins[other, i]
                out[other, i] += c * margins[k, i]
            pair += 1


@jit
def diagonal_part(curvature, out):
    """Write the v (C, rows) for which diag(v) - v vᵀ / sum v has the diagonal of C.

    A fixed point of v_k = C_kk / (1 - v_k / sum v). One class alone has v = C.
    """
    n_classes, n_rows = out.shape
    pair = 0
    for k in range(n_classes):
        for i in range(n_rows):
            out[k, i] = max(curvature[pair, i], curvature.dtype.type(0.0))
        pair += n_classes - k
    if n_classes == 1:
        return
    for i in range(n_rows):
        total = 0.0
        for k in range(n_classes):
            total += 1.5 * out[k, i]
        if total == 0.0:
            continue
        pair = 0
        for k in range(n_classes):
            out[k, i] *= 1.5
        for _ in range(ROUNDS):
            pair, renewed = 0, 0.0
            for k in range(n_classes):
                own = max(curvature[pair, i], curvature.dtype.type(0.0))
                out[k, i] = own / max(1.0 - out[k, i] / total, LEAST_REST)
                renewed += out[k, i]
                pair += n_classes - k
            total = renewed
