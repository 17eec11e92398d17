"""Coverage-guided fuzzing of the config reader and of the safetensors header reader; run by hand.

``pip install atheris && python tests/fuzz_readers.py -max_total_time=300 -timeout=20 corpus-folder``. An input begins
with a byte: even for a header, odd for a config. What it finds becomes a case in test_checkpoints or test_tensorfile.
"""

import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["segcore"]):
    import segcore
    from segcore import checkpoints, config, foreign, tensorfile

from segcore.testing import TinyDecoder, TinyEncoder

warnings.simplefilter("ignore")
segcore.encoders["tiny"], segcore.decoders["tinydec"] = TinyEncoder, TinyDecoder


def read(data):
    if data[:1] and data[0] % 2 == 0:
        try:
            tensorfile._parse_header(data[1:], 64)
        except tensorfile.TensorFileError:
            return
    try:
        found = config.parse_config(data[1:].decode("utf-8", "replace"), Path("config.json"))
        if foreign.is_smp_config(found):
            checkpoints._skeleton(checkpoints.smp_builder(found))
            return
        config.check_config(found)
        checkpoints._skeleton(lambda: checkpoints._build(found))
    except (segcore.CheckpointError, segcore.UnknownNameError):
        return


atheris.Setup(sys.argv, read)
atheris.Fuzz()
