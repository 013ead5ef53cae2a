"""The linear model on tensors, on any device. It needs torch.

Solvers and objective are the same as for numpy's arrays. The modules here replace what these call:
`link`, `potentials` and `barrier` replace the kernels, `design` and `gram` the rows of features.
"""
