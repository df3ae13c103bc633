"""Every metric over two processes is what it is over one."""

import socket

import torch
from torch import distributed, multiprocessing

from tests.metrics.cases import METRICS, images


def _work(rank, port, results):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    preds, targets = images(5)
    values = {}
    for name, make in METRICS.items():
        metric = make()
        metric.update(preds[rank::2], targets[rank::2])  # three images and two
        values[name] = float(metric.compute())
        if hasattr(metric, "class_scores"):
            values[f"{name} by class"] = metric.class_scores().tolist()
        if hasattr(metric, "precision"):
            values["precision"] = float(metric.precision())
        # What was shared is not kept: the next batch adds to the process's own.
        metric.update(preds[:1], targets[:1])
        values[f"{name} later"] = float(metric.compute())
    results.put((rank, values))
    distributed.destroy_process_group()


def test_two_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    multiprocessing.spawn(_work, (port, results), nprocs=2)
    found = dict(results.get() for _ in range(2))
    assert sorted(found) == [0, 1]
    preds, targets = images(5)
    for name, make in METRICS.items():
        metric = make()
        metric.update(preds, targets)
        expected = {name: metric.compute()}
        if hasattr(metric, "class_scores"):
            expected[f"{name} by class"] = metric.class_scores()
        if hasattr(metric, "precision"):
            expected["precision"] = metric.precision()
        for _ in range(2):
            metric.update(preds[:1], targets[:1])
        expected[f"{name} later"] = metric.compute()
        for values in found.values():
            for key, value in expected.items():
                torch.testing.assert_close(
                    torch.tensor(values[key], dtype=torch.float64),
                    value,
                    rtol=1e-12,
                    atol=0,
                    equal_nan=True,
                    msg=key,
                )
