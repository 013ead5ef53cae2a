"""The linear model's arrays as tensors, on whatever device; needs torch.

Solvers and objective are the same as for numpy. What is here replaces the arrays below them:
`link`, `potentials` and `barrier` the kernels, `design` and `gram` the rows of features.
"""
