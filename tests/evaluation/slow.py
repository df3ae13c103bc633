"""A source that takes its time, so that a test can kill it at work."""

import time

from tests.evaluation.tiny import TinySource


class SlowSource(TinySource):
    def forward(self, images, *, prompts=None):
        time.sleep(0.3)
        return super().forward(images, prompts=prompts)
