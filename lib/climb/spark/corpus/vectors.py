"""Convert columns of vectors to arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from climb.errors import ComponentError


def stack_vectors(column: pa.ListArray, width: int) -> NDArray[np.float32]:
    """Return the rows of a list column as one array, without a copy or a Python object per row.

    Raises:
        ComponentError: a row has another width, or contains NULL.
    """
    flat = column.flatten()
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if flat.null_count or not (lengths == width).all():
        found = sorted({str(n) for n in lengths if n != width})
        have = f"have width {', '.join(found)}" if found else "contain NULL instead of numbers"
        raise ComponentError(
            f"vectors in table embeddings {have}, but the centroids have width {width}"
        )
    return np.asarray(flat.to_numpy(zero_copy_only=True)).reshape(-1, width)
