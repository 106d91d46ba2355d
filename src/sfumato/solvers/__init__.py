"""Solvers: zero-shot posterior samplers for inverse problems."""

from sfumato.solvers.base import Guided, Solver

__all__ = ["Guided", "Solver"]
