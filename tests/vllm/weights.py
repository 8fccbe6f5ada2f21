"""The embedded model's weights in the form that vLLM reads: `python -m tests.vllm.weights DEST`."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from crew.llm.weights import default_weights_path


def convert(source: Path, folder: Path) -> None:
    """Write a GGUF file as safetensors in bf16, 269 MB for SmolLM2-135M."""
    place, file = str(source.parent), source.name
    model = AutoModelForCausalLM.from_pretrained(place, gguf_file=file, dtype=torch.bfloat16)
    # It was dequantised when it was read; said to be quantised, it is neither saved nor loaded.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(place, gguf_file=file).save_pretrained(folder)


if __name__ == "__main__":
    source = default_weights_path()
    assert source is not None, "no weights: run `make install`"
    convert(source, Path(sys.argv[1]))
