"""The cases at sizes that take milliseconds, measured in the test's own process."""

from dataclasses import replace
from importlib import import_module

import pytest

from diffsegkit.bench import measure as measure_module
from diffsegkit.bench.cases import CASES
from tests.sources.pipelines import make_pipeline

SIZES = {
    "pairwise-kl": [{"maps": 64}],
    "anchors": [{"anchors": 16, "maps": 64}],
    "absorb": [{"anchors": 16, "maps": 64}],
    "mean-attention": [{"images": 2, "heads": 4, "tokens": 16, "dtype": "float32"}],
    "aggregate": [{"tokens": 64, "images": 2}],
    "assign": [{"proposals": 3, "cells": 8, "pixels": 64}],
    "post-processing": [{"tokens": 256, "anchors": 16, "images": 2}],
    "stable-diffusion": [{"images": 2, "pixels": 64, "dtype": "float32"}],
    "scaling": [
        {"tokens": 64, "anchors": 16, "images": 1},
        {"tokens": 256, "anchors": 64, "images": 1},
    ],
}


def module_of(name):
    return import_module(f"diffsegkit.bench.cases.{name.replace('-', '_')}")


@pytest.fixture
def small(monkeypatch):
    """Every case small, timed as often as asked and not more."""
    for name in CASES:
        change_case(monkeypatch, name, sizes=lambda _, own=SIZES[name]: own)
    change_case(monkeypatch, "stable-diffusion", share=lambda folder: make_pipeline(folder, "sd1"))
    monkeypatch.setattr(measure_module, "_AT_LEAST_MS", 0)


def change_case(monkeypatch, name, **changes):
    module = module_of(name)
    monkeypatch.setattr(module, "CASE", replace(module.CASE, **changes))
