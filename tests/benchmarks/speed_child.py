"""One process of `speed.py`: prepares ways of running one model when they are first asked for, and times single runs.

Reads names of ways from its standard input and answers each with one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import torch  # noqa: E402 - imported after the filter

Run = Callable[[], Any]
PEAK_FLOPS = 2 * 64 * 64 * 256 * 256 * 9


def peak(dtype: torch.dtype) -> Run:
    """Return a well-shaped convolution: 3x3, 256 to 256 channels, 64 x 64, in oneDNN's own order."""
    x = torch.randn(1, 256, 64, 64).to(dtype).contiguous(memory_format=torch.channels_last)
    places: list[Any] = [[1, 1], [1, 1], [1, 1], 1]
    weight = torch.ops.mkldnn._reorder_convolution_weight(torch.randn(256, 256, 3, 3).to(dtype), *places, list(x.shape))
    return lambda: torch.ops.mkldnn._convolution_pointwise(x, weight, None, *places, "none", [], "")


class Ways:
    """The ways of running the model in a folder; each is a method that returns a function for one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.x = torch.load(folder / "x.pt")
        self.expected = torch.load(folder / "expected.pt")

    def peak(self) -> Run:
        return peak(torch.float32)

    def peak_bf16(self) -> Run:
        return peak(torch.bfloat16)

    def _smp(self) -> torch.nn.Module:
        import segcore

        segcore.guard_torchvision()
        import segmentation_models_pytorch as smp

        return smp.from_pretrained(self.folder / "smp").eval()  # type: ignore[no-any-return]

    def smp(self) -> Run:
        model = self._smp()
        return lambda: model(self.x)

    def smp_channels_last(self) -> Run:
        model = self._smp().to(memory_format=torch.channels_last)
        x = self.x.contiguous(memory_format=torch.channels_last)
        return lambda: model(x)

    def smp_compile(self) -> Run:
        model = torch.compile(self._smp())
        return lambda: model(self.x)

    def _ours(self) -> Any:
        import segcore

        return segcore.from_pretrained(self.folder / "smp").eval()

    def eager(self) -> Run:
        model = self._ours()
        return lambda: model(self.x)

    def _optimized(self, **options: Any) -> Run:
        from segcore_plugin_export import optimize_for_inference

        model = optimize_for_inference(self._ours(), self.x, repeats=0, channels_last=True, **options)
        return lambda: model(self.x)

    def optimized(self) -> Run:
        return self._optimized()

    def kept(self) -> Run:
        return self._optimized(keep_memory=True)

    def kept_bf16(self) -> Run:
        return self._optimized(keep_memory=True, dtype=torch.bfloat16)

    def compiled(self) -> Run:
        return self._optimized(keep_memory=True, compile=True)

    def compiled_bf16(self) -> Run:
        return self._optimized(keep_memory=True, compile=True, dtype=torch.bfloat16)

    def _exported(self, suffix: str) -> Path:
        from segcore_plugin_export import export

        path = self.folder / f"model{suffix}"
        if not path.exists():
            export(self._ours(), path, size=tuple(self.x.shape[2:]))
        return path

    def onnxruntime(self) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        session = onnxruntime.InferenceSession(
            self._exported(".onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        given = {session.get_inputs()[0].name: self.x.numpy()}
        return lambda: torch.from_numpy(session.run(None, given)[0])

    def _openvino(self, precision: str) -> Run:
        import openvino

        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(str(self._exported(".xml")), "CPU", options)
        request, given = compiled.create_infer_request(), self.x.numpy()
        return lambda: torch.from_numpy(next(iter(request.infer([given]).values())))

    def openvino(self) -> Run:
        return self._openvino("f32")

    def openvino_bf16(self) -> Run:
        return self._openvino("bf16")

    def deviation(self, result: Any) -> float | None:
        """Return the largest difference from SMP's result, as a share of its largest value."""
        if result.shape != self.expected.shape:
            return None  # of the peak
        return float((result.float() - self.expected).abs().max() / self.expected.abs().max())


def main() -> None:
    """Answer until the input ends."""
    torch.set_num_threads(1)
    ways = Ways(Path(sys.argv[1]))
    ready: dict[str, tuple[Run, float | None, float]] = {}
    for line in sys.stdin:
        name = line.strip()
        try:
            with torch.inference_mode():
                if name not in ready:
                    start = time.process_time()
                    run = getattr(ways, name)()
                    result = run()
                    ready[name] = run, ways.deviation(result), time.process_time() - start
                    del result
                run, deviation, preparation = ready[name]
                run()  # the one before left other memory and other caches
                start = time.process_time()
                run()
                cpu = time.process_time() - start
            answer = {"cpu": cpu, "deviation": deviation, "preparation": preparation}
        except Exception as error:
            answer = {"problem": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
