"""Convert a GGUF model to safetensors and try it. Runs alone, inside the conversion environment.

``python convert.py DIRECTORY FILE.gguf OUTPUT`` writes the weights as float16, the tokenizer, its chat
template and the generation settings. The source is Q4_1, a float16 scale and offset for each 32 weights:
float16 holds the product with an eighth of bfloat16's rounding error, in the same 2 bytes per weight.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

QUESTION = "What is the capital of France?"
ANSWER = "Paris"


def convert(directory: str, name: str, output: Path) -> None:
    import torch  # type: ignore[import-not-found, unused-ignore]
    from transformers import (  # type: ignore[import-not-found, unused-ignore]
        AutoModelForCausalLM,
        AutoTokenizer,
        GgufConfig,
    )

    tokenizer = AutoTokenizer.from_pretrained(directory, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(
        directory, gguf_file=name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.to(torch.float16).save_pretrained(output)
    tokenizer.save_pretrained(output)
    for_older_releases(output)


def for_older_releases(output: Path) -> None:
    """Say what transformers 5 names anew also in the words of transformers 4, which older engines use."""
    config = json.loads((output / "config.json").read_text())
    config.pop("_model_name_or_path", None)  # the title of a checkpoint that nobody can look up
    names = {"rope_theta": config["rope_parameters"]["rope_theta"], "torch_dtype": config["dtype"]}
    write_json(output / "config.json", config | names)
    tokenizer = json.loads((output / "tokenizer_config.json").read_text())
    for key in ("is_local", "local_files_only"):  # of the conversion, not of the model
        tokenizer.pop(key, None)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config["max_position_embeddings"],
    }
    write_json(output / "tokenizer_config.json", tokenizer | settings)


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def ask(output: Path) -> str:
    """What the converted model answers to the lab's question in float32, always the likeliest token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(output)
    model = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    tokens = model.generate(**prompt, max_new_tokens=16, do_sample=False)
    return str(tokenizer.decode(tokens[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True))


def main() -> int:
    directory, name, output = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    convert(directory, name, output)
    answer = ask(output)
    sys.stdout.write(f"{QUESTION} {answer}\n")
    if ANSWER not in answer:
        sys.stderr.write(f"the converted model does not know the answer {ANSWER!r}: it says {answer!r}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
