"""Tiles side by side with MONAI: time, peak memory, and what tiling adds to a real model. Linux only.

    python plugins/segcore-plugin-predict/tests/benchmark.py            # prints the tables
    python plugins/segcore-plugin-predict/tests/benchmark.py --write    # and puts them into the README

Each pair is measured in one process, in turn; times are CPU times, and ratios are those of medians. Memory is the peak
of a process of its own beyond what it held before the call. The model of the first table is one 1x1 convolution, so
that little but the tiles counts; tiles are 512 x 512 with 64 pixels of overlap and Gaussian weights on both sides.
"""

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

README = Path(__file__).parents[1] / "README.md"
SIZE = 4096
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
EXACT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}  # freed buffers leave the process at once


def sides(classes, output, size):
    """Return the two competitors as functions, and how many bytes their result has to have."""
    import torch
    from monai.inferers import sliding_window_inference
    from segcore_plugin_predict import predict_tiled

    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, classes, 1).eval()
    image = torch.randn(3, size, size)

    def ours():
        return predict_tiled(model, image, 512, 64, output=output, preprocessing=None)

    @torch.inference_mode()
    def monai():
        logits = sliding_window_inference(image[None], 512, 1, model, overlap=0.125, mode="gaussian")[0]
        if output == "logits":
            return logits
        return logits.argmax(0) if classes > 1 else logits[0] > 0

    return {"ours": ours, "monai": monai}


def whole_model(size):
    """Return a real model in tiles, and the same calls of the model alone."""
    import torch
    from segcore_plugin_predict import predict_tiled
    from segcore_plugin_predict.tiles import spans

    import segcore

    torch.manual_seed(0)
    model = segcore.create_model("unet", "resnet34", classes=19).eval()
    image = torch.randn(3, size, size)
    plan = spans(size, 512, 64, "gaussian", 32)

    @torch.inference_mode()
    def bare():
        for y in plan:
            for x in plan:
                model(image[None, :, y.start : y.stop, x.start : x.stop])

    return {
        "labels": lambda: predict_tiled(model, image, 512, 64, preprocessing=None),
        "logits": lambda: predict_tiled(model, image, 512, 64, preprocessing=None, output="logits"),
        "bare": bare,
    }


def timed(functions, repeats):
    """Return the CPU times of each function, taken in turn after one unmeasured call of each."""
    times = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name in functions if repeat % 2 else reversed(functions):
            start = time.process_time()
            result = functions[name]()
            spent = time.process_time() - start
            del result
            gc.collect()
            if repeat:
                times[name].append(spent)
    return times


def status(field):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def peak(function):
    """Return how many bytes a call needs at most beyond what the process holds before it."""
    gc.collect()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    function()
    return status("VmHWM") - before


def child(request):
    kind, *rest = request
    if kind == "time":
        return timed(sides(*rest[:3]), rest[3])
    if kind == "memory":
        warm = sides(*rest[:2], 600)[rest[3]]  # what is allocated once is not the image's
        warm()
        return peak(sides(*rest[:3])[rest[3]])
    return timed(whole_model(rest[0]), rest[1])


def ask(*request, **environment):
    command = [sys.executable, "-W", "ignore", __file__, "--child", json.dumps(request)]
    done = subprocess.run(
        command, env=os.environ | ENVIRONMENT | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def tile_rows(size=SIZE, repeats=5):
    """Measure each kind of result: (classes, output, time ratio, spread, our peak, MONAI's, bytes of the result)."""
    rows = []
    for classes in (1, 19):
        for output in ("logits", "labels"):
            times = ask("time", classes, output, size, repeats)
            ratios = [a / b for a, b in zip(times["ours"], times["monai"], strict=True)]
            memory = [ask("memory", classes, output, size, side, **EXACT_MEMORY) for side in ("ours", "monai")]
            result = size * size * (1 if output == "labels" else 4 * classes)
            time_ratio = median(times["ours"]) / median(times["monai"])
            rows.append((classes, output, time_ratio, (min(ratios), max(ratios)), *memory, result))
    return rows


def overheads(size=2048, repeats=3):
    """Measure what tiling adds to the calls of Unet/resnet34: ratios of medians by kind of result."""
    times = {name: median(values) for name, values in ask("whole", size, repeats).items()}
    return {name: times[name] / times["bare"] for name in ("labels", "logits")}


def table(rows, added):
    lines = [
        f"| {SIZE} x {SIZE}, tiles of 512 | time / MONAI | peak memory, MB | MONAI, MB | beyond the result, MB | memory / MONAI |",
        "|---|---|---|---|---|---|",
    ]
    for classes, output, ratio, (low, high), ours, theirs, result in rows:
        name = f"{classes} class{'es' if classes > 1 else ''}, {output}"
        lines.append(
            f"| {name} | {ratio:.2f} ({low:.2f} to {high:.2f}) | {ours / 2**20:.0f} | {theirs / 2**20:.0f} | "
            f"{(ours - result) / 2**20:.0f} | {ours / theirs:.2f} |"
        )
    more = {name: f"{100 * (ratio - 1):+.1f} %" for name, ratio in added.items()}
    sentence = (
        f"Unet/resnet34, 19 classes, 2048 x 2048: {more['labels']} for labels and {more['logits']} for logits over the "
        f"bare calls of the model on the same tiles."
    )
    return "\n".join([*lines, "", sentence])


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--child", help=argparse.SUPPRESS)
    options.add_argument("--write", action="store_true", help="put the tables into the README")
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args()
    if given.child:
        print(json.dumps(child(json.loads(given.child))))
        return
    text = table(tile_rows(repeats=given.repeats), overheads())
    print(text)
    if given.write:
        page = README.read_text(encoding="utf-8")
        pattern = r"(<!-- tiles: [^\n]* -->\n).*?(<!-- end of tiles -->)"
        README.write_text(re.sub(pattern, rf"\g<1>\n{text}\n\n\g<2>", page, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
