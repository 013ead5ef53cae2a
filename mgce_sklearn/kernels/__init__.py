r"""The mathematics of one row of margins. Arrays in, arrays out.

Conventions
-----------
q is the parameter of the loss l_q(h, y) = (1 - h_y^q) / q, where h_y is the probability that a
rule gives to the label y. It runs from cross-entropy, -log h_y, at q = 0 to the probability of
error, 1 - h_y, at q = 1. In between, q l_q <= 1 - h_y <= l_q. The loss of one row is at most
1/q. For large q wrong labels therefore cost less, and probabilities may be exactly 0 and 1. At
q = 0 the loss is unbounded, and no class has probability 0.

=======  ============  =======  ===================================  =======================
symbol   variable      shape    meaning                              sign
=======  ============  =======  ===================================  =======================
q        ``q``         scalar   loss parameter                       in [0, 1]
m        ``margins``   (n, K)   one margin per class, m = x Wᵀ       any
psi      ``psi``       (n,)     threshold, root of sum_k h_k = 1     at least max m
z                      (n, K)   (1 + q (m - psi))_+                  in [0, 1]
h        ``rule``      (n, K)   classification rule, z^{1/q}         probability
p*       ``p``         (n, K)   worst case, h^{1-q} / sum h^{1-q};   probability
                                the gradient of psi
v        ``v``         (n, K)   curvature,                           at least 0
                                (1-q) z^{(1-2q)/q} / sum z^{(1-q)/q}
H_q      ``entropy``   (n,)     (1 - ‖p‖_{1/(1-q)}) / q              in [0, (1 - K^{-q})/q]
eps      ``eps``       scalar   width of the smoothing of z_+        positive
=======  ============  =======  ===================================  =======================

The loss of a row is psi(m) - m_y, at least 0. The Hessian of psi is (I - p*1ᵀ) diag(v) (I - 1p*ᵀ).
psi(m) = max_p <p, m> + H_q(p), attained at p*. The *support* is where z > 0.

============  ==========================  ===========================================
\             q = 0                       q = 1
============  ==========================  ===========================================
psi           logsumexp(m)                root of sum_k (1 + m_k - psi)_+ = 1
h             softmax                     sparsemax, the projection on the simplex
p*            the same as h               uniform on the support
v             p*                          0: psi is piecewise linear
H_q           Shannon's entropy           1 - max p
============  ==========================  ===========================================

Arrays are C-ordered (n, K), one row an example. float32 in gives float32 out, computed in
float64. A margin of -inf is a class of probability 0; NaN or +inf makes its row NaN.

`reference` has every formula in plain numpy, which is slow. `link` is the fast implementation,
`lanes` its layout in memory, and `elementary` its logarithms and powers.
"""

from mgce_sklearn.kernels.entropy import entropy
from mgce_sklearn.kernels.lanes import loss_parameter
from mgce_sklearn.kernels.link import (
    rule,
    threshold,
    threshold_and_worst_case,
    worst_case,
)
from mgce_sklearn.kernels.prox import soft_threshold
from mgce_sklearn.kernels.smoothed import smoothed_threshold_and_gradient

__all__ = [
    "entropy",
    "loss_parameter",
    "rule",
    "smoothed_threshold_and_gradient",
    "soft_threshold",
    "threshold",
    "threshold_and_worst_case",
    "worst_case",
]
