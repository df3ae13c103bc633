"""Every Triton kernel, compiled for GPUs that need not be here: registers, spills, shared memory.

The launchers run on tensors without data, so what is compiled is what would be launched, for the
shapes of Stable Diffusion and for odd ones.

    python experiments/benchmarks/compile_kernels.py [--targets 80 90] [--json]
"""

import argparse
import json
import re
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

# Shared memory that a block may have, in bytes (CUDA programming guide, "Compute capabilities").
SHARED_LIMIT = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024}
_POINTERS = {
    torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.bool: "*i1",
    torch.uint8: "*u8", torch.int32: "*i32", torch.int64: "*i64",
}  # fmt: skip
_OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")


def launches():
    """``[(what, kernel, arguments, options)]`` of every launcher, on tensors without data."""
    labelled, found = [], []

    def record(kernel, *args, grid, warmup=False, **kwargs):  # noqa: ARG001
        options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
        bound = kernel.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        found.append((kernel, dict(bound.arguments), options))

    run, JITFunction.run = JITFunction.run, record
    try:
        for what, launch in _cases():
            launch()
            labelled.extend((what, *each) for each in found)
            found.clear()
    finally:
        JITFunction.run = run
    return labelled


def _cases():
    from diffsegkit.kernels.absorb.triton import add_sums_triton, mark_close_triton
    from diffsegkit.kernels.accumulate_upsampled.triton import accumulate_upsampled_triton
    from diffsegkit.kernels.greedy_groups.triton import walk_triton
    from diffsegkit.kernels.mean_attention.triton import mean_attention_triton
    from diffsegkit.kernels.pairwise_kl.triton import pairwise_kl_triton
    from diffsegkit.kernels.upsampled_argmax.triton import upsampled_argmax_triton

    def empty(*shape, dtype=torch.float32):
        return torch.empty(shape, dtype=dtype, device="meta")

    half = torch.float16
    for split in (True, False):
        mode = "float32" if split else "fast"
        yield (
            f"pairwise_kl {mode}, all pairs of 4096",
            partial(pairwise_kl_triton, empty(1, 4096, 4096), None, split),
        )
        yield (
            f"pairwise_kl {mode}, 256 to 4096",
            partial(pairwise_kl_triton, empty(1, 256, 4096), empty(1, 4096, 4096), split),
        )
        yield (
            f"pairwise_kl {mode}, odd shapes, float16",
            partial(pairwise_kl_triton, empty(2, 5, 77, dtype=half), None, split),
        )
        anchors, maps = empty(256, 4096), empty(4096, 4096)
        members = empty(256, 4096, dtype=torch.bool)
        yield (
            f"absorb {mode}, 256 anchors of 4096",
            partial(mark_close_triton, anchors, maps, 1.1, members, split),
        )
    yield "absorb, sums of 4096", partial(add_sums_triton, members, maps, empty(256, 4096))
    odd = empty(5, 77, dtype=torch.bfloat16), empty(9, 77, dtype=torch.bfloat16)
    members = empty(5, 9, dtype=torch.bool)
    yield "absorb, odd shapes, bfloat16", partial(mark_close_triton, *odd, 1.1, members, True)
    yield "absorb, odd sums, bfloat16", partial(add_sums_triton, members, odd[1], empty(5, 77))

    def attend(heads, queries, keys, channels, dtype, out=None):
        q = empty(1, queries, heads * channels, dtype=dtype)
        k = empty(1, keys, heads * channels, dtype=dtype)
        # Heads are views of one projection, as in a model.
        q, k = (each.unflatten(2, (heads, channels)).transpose(1, 2) for each in (q, k))
        mean_attention_triton(q, k, channels**-0.5, out, 1.0)

    fine, bf16 = empty(1, 4096, 4096), torch.bfloat16
    yield "mean_attention, 8 heads of 40, 4096", partial(attend, 8, 4096, 4096, 40, half)
    yield "mean_attention, added to a sum", partial(attend, 8, 4096, 4096, 40, half, fine)
    tokens = empty(1, 1374, 1374)
    yield "mean_attention, 6 heads of 64, 1374", partial(attend, 6, 1374, 1374, 64, half, tokens)
    yield "mean_attention, 8 heads of 160, 256", partial(attend, 8, 256, 256, 160, half)
    yield "mean_attention, float32, 160", partial(attend, 8, 256, 256, 160, torch.float32)
    yield "mean_attention, odd shapes, bfloat16", partial(attend, 3, 77, 75, 7, bf16)
    for side in (64, 32, 16, 8):
        coarse = empty(1, side**2, side**2)
        yield (
            f"accumulate_upsampled, {side} to 64",
            partial(accumulate_upsampled_triton, fine, coarse, (side, side), (64, 64), 0.1),
        )
    yield (
        "accumulate_upsampled, odd shapes, bfloat16",
        partial(
            accumulate_upsampled_triton, empty(2, 45, 45), empty(2, 15, 15, dtype=bf16), (3, 5),
            (9, 5), 0.1,
        ),
    )  # fmt: skip
    for number in (5, 256, 4096):
        close = empty(number, number, dtype=torch.bool)
        for overlap in (True, False):
            what = "overlapping" if overlap else "exclusive"
            yield f"greedy_groups {what}, {number}", partial(walk_triton, close, overlap)
    yield (
        "upsampled_argmax, 8 maps to 512",
        partial(upsampled_argmax_triton, empty(8, 64, 64), (512, 512)),
    )
    yield (
        "upsampled_argmax, odd shapes, float16",
        partial(upsampled_argmax_triton, empty(3, 5, 7, dtype=half), (33, 29)),
    )


def compile_for(kernel, arguments, options, capability):
    """Compile one launch.

    Args:
        kernel: The kernel.
        arguments: Of the launch, by name.
        options: Warps and stages.
        capability: Of the GPU, such as 90.

    Returns:
        The binary, and the shared memory it asks for, in bytes.
    """
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        # As at a launch: an argument of 1 becomes a constant, one that 16 divides is known to be.
        if parameter.is_constexpr or (type(value) is int and value == 1) or value is None:
            signature[parameter.name] = "constexpr"
            constants[(index,)] = value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = _POINTERS[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[parameter.name] = "i32" if abs(value) < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "fp32"
    source = ASTSource(kernel, signature, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return compiled.asm["cubin"], compiled.metadata.shared


def resources(binary):
    """Registers of a thread, and bytes that it spills, as the toolkit's cuobjdump reads them."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [tool, "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = {key: int(value) for key, value in re.findall(r"([A-Z]+):(\d+)", text)}
    return usage["REG"], usage["STACK"] + usage["LOCAL"]


def measure(targets):
    """A row per launch and target."""
    rows = []
    for what, kernel, arguments, options in launches():
        for capability in targets:
            binary, shared = compile_for(kernel, arguments, options, capability)
            registers, spilled = resources(binary)
            rows.append(
                {
                    "launch": what,
                    "kernel": kernel.__name__,
                    "target": f"sm_{capability}",
                    "warps": options.get("num_warps", 4),
                    "registers": registers,
                    "spilled_bytes": spilled,
                    "shared_bytes": shared,
                    "shared_limit": SHARED_LIMIT[capability],
                }
            )
    return rows


def main():
    """Compile everything and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, nargs="+", default=[80, 90], choices=SHARED_LIMIT)
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    options = parser.parse_args()
    rows = measure(options.targets)
    if options.json:
        print(json.dumps(rows))
        return
    print(
        f"{'':52}{'kernel':34}{'target':>8}{'warps':>7}{'registers':>11}{'spilled B':>11}"
        f"{'shared KiB':>12}"
    )
    for row in rows:
        print(
            f"{row['launch']:52}{row['kernel']:34}{row['target']:>8}{row['warps']:7}{row['registers']:11}"
            f"{row['spilled_bytes']:11}{row['shared_bytes'] / 1024:12.1f}"
        )
    print(f"\ntriton {triton.__version__}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
