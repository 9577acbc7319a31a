"""From sums over a source's targets to scores, p-values and their adjustment; ``activity.cu`` holds the same for CUDA."""

import math

import numba
import numpy as np

from rsc_core.kernels.twin import twin

EPSILON = 2.220446049250313e-16  # of float64
TINY = 1e-300  # keeps Lentz's fractions from 0


# t of the correlation of a cell's values with a source's weights; NaN for cells whose genes all have one value. The tiny
# number keeps a perfect correlation finite; it is decoupler's.
@twin("float64 float64 float64 float64 float64 float64 float64 int64 float64")
def correlation_scores(n_items, product, total, squares, mean, length, n_genes, df, n_sources, score):
    for cell in numba.prange(n_items // n_sources):
        spread = squares[cell] - total[cell] * (total[cell] / n_genes)
        if spread <= n_genes * EPSILON * squares[cell]:
            spread = np.nan
        for s in range(n_sources):
            r = (product[cell, s] - total[cell] * mean[s]) / (math.sqrt(spread) * length[s])
            score[cell, s] = r * math.sqrt(df / ((1.0 - r + 2.2e-16) * (1.0 + r + 2.2e-16)))


# Products with centred weights of unit length.
@twin("float64 float64 float64 float64 int64 float64")
def centred_products(n_items, product, total, mean, length, n_sources, out):
    for cell in numba.prange(n_items // n_sources):
        for s in range(n_sources):
            out[cell, s] = (product[cell, s] - total[cell] * mean[s]) / length[s]


# t of the coefficients of a linear model; a perfect fit is infinite. ``scale``: root of the diagonal of the inverse.
@twin("float64 float64 float64 float64 float64 float64 float64 int64 float64")
def coefficient_scores(n_items, coefficient, covariance, total, squares, scale, n_genes, df, n_sources, score):
    for cell in numba.prange(n_items):
        spread = squares[cell] - total[cell] * (total[cell] / n_genes)
        if spread <= n_genes * EPSILON * squares[cell]:
            spread = np.nan
        explained = 0.0
        for s in range(n_sources):
            explained += coefficient[cell, s] * covariance[cell, s]
        residual = spread - explained
        error = math.sqrt((0.0 if residual < 0 else residual) / df)
        for s in range(n_sources):
            b = coefficient[cell, s]
            if error == 0:
                score[cell, s] = math.copysign(np.inf, b) if b != 0 else np.nan
            else:
                score[cell, s] = b / (error * scale[s])


# Weighted mean of a source's targets over its standard error; ``share``: of the mean of all genes that is subtracted.
@twin("float64 float64 float64 float64 float64 float64 float64 int64 float64")
def mean_scores(n_items, product, total, squares, weight_sum, root, share, n_genes, n_sources, score):
    for cell in numba.prange(n_items // n_sources):
        spread = squares[cell] - total[cell] * (total[cell] / n_genes)
        if spread <= n_genes * EPSILON * squares[cell]:
            spread = np.nan
        deviation = math.sqrt(spread / (n_genes - 1))
        for s in range(n_sources):
            if weight_sum[s] > 0:
                score[cell, s] = (product[cell, s] / weight_sum[s] - share * (total[cell] / n_genes)) * root[s] / deviation
            else:
                score[cell, s] = np.nan


# Two-sided p-values of Student's t, 2 P(T > |t|) = I_x(df/2, 1/2) with x = df / (df + t^2), by the continued fraction of
# the incomplete beta function (Lentz's way), of its complement where that converges faster. ``log_beta``: log of the beta
# function at (df/2, 1/2).
@twin("float64 float64 float64 float64")
def student_tails(n_items, t, df, log_beta, p):
    for item in numba.prange(n_items):
        ratio = t[item] * t[item] / df
        if not ratio >= 0:
            p[item] = np.nan
        elif ratio == np.inf:
            p[item] = 0.0
        else:
            x, rest = 1.0 / (1.0 + ratio), ratio / (1.0 + ratio)
            power = -(0.5 * df) * math.log1p(ratio)
            upper = rest * (0.5 * df + 2.5) >= 1.5
            a, b, z = (0.5 * df, 0.5, x) if upper else (0.5, 0.5 * df, rest)
            c, d = 1.0, 1.0 - (a + b) * z / (a + 1.0)
            if abs(d) < TINY:
                d = TINY
            d = 1.0 / d
            fraction = d
            for m in range(1, 10000):
                step = m * (b - m) * z / ((a - 1.0 + 2 * m) * (a + 2 * m))
                d = 1.0 + step * d
                c = 1.0 + step / c
                if abs(d) < TINY:
                    d = TINY
                if abs(c) < TINY:
                    c = TINY
                d = 1.0 / d
                fraction *= d * c
                step = -(a + m) * (a + b + m) * z / ((a + 2 * m) * (a + 1.0 + 2 * m))
                d = 1.0 + step * d
                c = 1.0 + step / c
                if abs(d) < TINY:
                    d = TINY
                if abs(c) < TINY:
                    c = TINY
                d = 1.0 / d
                fraction *= d * c
                if abs(d * c - 1.0) < 1e-15:
                    break
            part = math.exp(power - log_beta) * math.sqrt(rest) * fraction / a
            p[item] = part if upper else 1.0 - part


# Two-sided p-values of the standard normal distribution.
@twin("float64 float64")
def normal_tails(n_items, z, p):
    for item in numba.prange(n_items):
        p[item] = math.erfc(abs(z[item]) * 0.7071067811865476)


# p-values times the number of tests over their rank (the highest of tied ones); NaN: no test.
@twin("float64 int64 float64")
def ranked_p(n_items, p, n_tests, scaled):
    for row in numba.prange(n_items // n_tests):
        order = np.argsort(p[row], kind="mergesort")  # NaN last
        n = n_tests
        while n > 0 and math.isnan(p[row, order[n - 1]]):
            n -= 1
            scaled[row, order[n]] = np.nan
        rank = n
        for i in range(n - 1, -1, -1):
            if i + 1 < n and p[row, order[i]] < p[row, order[i + 1]]:
                rank = i + 1
            scaled[row, order[i]] = p[row, order[i]] * (float(n) / rank)


# The least of these among p-values that are at least as high, at most 1: adjusted by Benjamini and Hochberg.
@twin("float64 float64 int64 float64")
def stepped_up(n_items, p, scaled, n_tests, adjusted):
    for row in numba.prange(n_items // n_tests):
        least = 1.0
        order = np.argsort(p[row], kind="mergesort")
        for i in range(n_tests - 1, -1, -1):
            here = scaled[row, order[i]]
            if math.isnan(here):
                adjusted[row, order[i]] = np.nan
            else:
                least = min(least, here)
                adjusted[row, order[i]] = least
