"""`DaskMGCEClassifier`: MGCEClassifier fitted to rows on the workers of a Dask cluster."""

try:
    import dask.array
    import dask.dataframe  # noqa: F401
    import distributed  # noqa: F401
except ImportError as error:
    raise ImportError(
        "mgce_sklearn.dask needs dask and distributed: pip install 'mgce_sklearn[dask]'."
    ) from error

from mgce_sklearn.dask.classifier import DaskMGCEClassifier
from mgce_sklearn.dask.rounds import ClusterError

__all__ = ["ClusterError", "DaskMGCEClassifier"]
