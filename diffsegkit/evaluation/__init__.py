"""The test loop: any method on any data set, scored by a named protocol."""

from diffsegkit.evaluation.module import EvaluationModule
from diffsegkit.evaluation.prediction import LabelMapWriter
from diffsegkit.evaluation.protocol import Protocol

__all__ = ["EvaluationModule", "LabelMapWriter", "Protocol"]
