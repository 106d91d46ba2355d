"""Features of a small classifier of Fashion-MNIST, for `sfumato evaluate --features fashion_features:features`.

    PYTHONPATH=benchmarks sfumato evaluate SAMPLES REFERENCE --features fashion_features:features

The classifier is that of fashion.py; `benchmarks/evaluate.py` trains it and leaves its weights in build/evaluate.
"""

from __future__ import annotations

import functools
from pathlib import Path

from fashion import Classifier
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS = Path("build/evaluate/classifier.safetensors")


def features(x: Tensor) -> Tensor:
    """64 penultimate features of pictures (B, 1, 28, 28) in [0, 1]."""
    return _net().features(2.0 * x - 1.0)


@functools.cache
def _net() -> Classifier:
    net = Classifier()
    net.load_state_dict(load_file(WEIGHTS))
    return net.eval()
