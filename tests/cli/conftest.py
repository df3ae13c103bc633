"""Fixtures of other folders that commands are tested with."""

from tests.weights.conftest import hub as hub
