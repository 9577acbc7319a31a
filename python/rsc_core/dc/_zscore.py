"""Activities by the mean of a source's targets in units of the spread of all genes."""

from __future__ import annotations

import numpy as np

from rsc_core import backend
from rsc_core.dc._p import adjusted, normal_p
from rsc_core.dc._read import BLOCK_ROWS, read
from rsc_core.kernels import activity as kernels

FLAVORS = ("RoKAI", "KSEA")


def zscore(data, net, *, flavor="RoKAI", tmin=5, layer=None, raw=False, bsize=BLOCK_ROWS, verbose=False):
    """Weighted mean of a source's targets over its standard error under the spread of all genes.

    RoKAI: z = m sqrt(k) / s; KSEA: z = (m - mean y) sqrt(k) / s. m = sum_g w_g y_g / sum_g \\|w_g\\|; k targets of weight
    other than 0; mean and s (with n - 1) of all n genes. p two-sided from the standard normal distribution.

    Parameters
    ----------
    data, net, tmin, layer, raw, bsize, verbose
        As for :func:`rsc_core.dc.ulm`.
    flavor
        ``"RoKAI"`` subtracts nothing (for data that are centred, such as log ratios), ``"KSEA"`` the mean of all genes.

    Returns
    -------
    As for :func:`rsc_core.dc.ulm`: ``score_zscore``, ``padj_zscore``.

    Raises
    ------
    InvalidInput, ValueError
        As for :func:`rsc_core.dc.ulm`; also ValueError for an unknown flavor.

    Notes
    -----
    Cells whose genes all have one value, and sources whose weights are all 0, have NaN. decoupler 2.2 documents the same
    formulas and computes each under the other's name: its ``flavor="KSEA"`` agrees with RoKAI here within 1e-9, and the
    other way round. KSEA: Casado et al. 2013, doi:10.1126/scisignal.2003573, Wiredja et al. 2017,
    doi:10.1093/bioinformatics/btx415. RoKAI: Yilmaz et al. 2021, doi:10.1038/s41467-021-21211-6.
    """
    if flavor not in FLAVORS:
        raise ValueError(f"flavor is {flavor!r}; it must be one of {', '.join(FLAVORS)}")
    given = read("zscore", data, net, tmin, layer, raw, bsize, verbose)
    xp, n_genes, n_sources = backend.xp_of(given.product), given.weights.shape[0], len(given.sources)
    weight_sum = xp.asarray(np.asarray(abs(given.weights).sum(axis=0)).ravel())
    root = xp.asarray(np.sqrt(np.asarray((given.weights != 0).sum(axis=0), dtype=np.float64).ravel()))
    score, share = xp.empty_like(given.product), float(flavor == "KSEA")
    sums = given.product, given.total, given.squares
    kernels.mean_scores(score.size, *sums, weight_sum, root, share, n_genes, n_sources, score)
    return given.store(score=score, padj=adjusted(normal_p(score)))


# The names of decoupler 1.
run_zscore = zscore
