"""L-BFGS in coefficients of its stored vectors: few passes over them, and no number of the device in its loops."""

from __future__ import annotations

import numpy as np

from rsc_core.kernels import logreg as kernels
from rsc_core.tl._multinomial import dots


class Memory:
    """Steps and changes of the gradient, and the direction that they give (Liu & Nocedal 1989, doi:10.1007/BF01589116).

    All products are kept that the two loops need (Chen, Wang & Zhou 2014, NIPS 27); ``inverse``: a linear function, a
    first inverse of the Hessian, which may be exchanged.
    """

    def __init__(self, xp, shape, size):
        self.xp, self.size, self.slots = xp, size, []  # the oldest first
        self.steps, self.changes = (xp.zeros((size, *shape)) for _ in range(2))
        self.step_change, self.change_change = np.zeros((size, size)), np.zeros((size, size))
        self.inverse = None

    def exchange(self, inverse):
        """Another first inverse."""
        self.inverse = inverse
        for slot in self.slots:
            self._weigh(slot)

    def add(self, step, change):
        """Store a step unless it went along no curvature."""
        if dots(step[None], change).sum() <= 0:
            return
        slot = self.slots.pop(0) if len(self.slots) == self.size else len(self.slots)
        self.slots.append(slot)
        self.steps[slot], self.changes[slot] = step, change
        self.step_change[:, slot] = dots(self.steps, change).sum(axis=1)
        self.step_change[slot] = dots(self.changes, step).sum(axis=1)
        self._weigh(slot)

    def direction(self, gradient):
        """Minus the inverse Hessian times the gradient."""
        along_steps = dots(self.steps, gradient).sum(axis=1)
        along_changes = dots(self.changes, self.inverse(gradient)).sum(axis=1)
        down, up = np.zeros(self.size), np.zeros(self.size)
        for slot in reversed(self.slots):
            down[slot] = (along_steps[slot] - self.step_change[slot] @ down) / self.step_change[slot, slot]
        newest = self.slots[-1] if self.slots else None
        gamma = 1.0 if newest is None else self.step_change[newest, newest] / self.change_change[newest, newest]
        for slot in self.slots:
            rest = gamma * (along_changes[slot] - self.change_change[slot] @ down) + self.step_change[:, slot] @ up
            up[slot] = down[slot] - rest / self.step_change[slot, slot]
        result = gamma * self.inverse(self._added(gradient, self.changes, -down))
        return -self._added(result, self.steps, up)

    def _weigh(self, slot):
        weighed = dots(self.changes, self.inverse(self.changes[slot])).sum(axis=1)
        self.change_change[:, slot] = self.change_change[slot] = weighed

    def _added(self, vector, vectors, factors):
        result = vector.copy()
        kernels.combination(vector.size, vectors.reshape(self.size, -1), self.xp.asarray(factors), self.size, result.reshape(-1))
        return result
