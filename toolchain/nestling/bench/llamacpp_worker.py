"""Times llama.cpp on a decoder with random weights; runs in an environment of its own.

Needs the packages llama-cpp-python and gguf, and nothing of ours. Reads the architecture as JSON
from its first argument, prints nanoseconds a token as JSON.
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Write the model, generate, print."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.gguf"
        write_model(path, job)
        print(json.dumps({"token_ns": time_tokens(path, job)}))


def write_model(path: Path, job: dict[str, Any]) -> None:
    """Write a Llama of this architecture; matrices in the format `job["format"]` (Q8_0, Q4_0)."""
    import gguf  # type: ignore[import-not-found]
    import numpy as np

    kind = gguf.GGMLQuantizationType[job["format"]]
    dim, groups, heads = job["dim"], job["groups"], job["heads"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_vocab_size(job["vocabulary"])
    writer.add_context_length(job["context"])
    writer.add_embedding_length(dim)
    writer.add_block_count(job["depth"])
    writer.add_feed_forward_length(job["hidden"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_rope_dimension_count(dim // heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("no_vocab")
    rng = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        values = (rng.standard_normal((rows, columns), dtype=np.float32)) * 0.02
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(dim, dtype=np.float32))

    matrix("token_embd.weight", job["vocabulary"], dim)  # tied: it is the output as well
    ones("output_norm.weight")
    narrow = dim // heads * groups
    for layer in range(job["depth"]):
        prefix = f"blk.{layer}"
        ones(f"{prefix}.attn_norm.weight")
        ones(f"{prefix}.ffn_norm.weight")
        matrix(f"{prefix}.attn_q.weight", dim, dim)
        matrix(f"{prefix}.attn_k.weight", narrow, dim)
        matrix(f"{prefix}.attn_v.weight", narrow, dim)
        matrix(f"{prefix}.attn_output.weight", dim, dim)
        matrix(f"{prefix}.ffn_gate.weight", job["hidden"], dim)
        matrix(f"{prefix}.ffn_up.weight", job["hidden"], dim)
        matrix(f"{prefix}.ffn_down.weight", dim, job["hidden"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def time_tokens(path: Path, job: dict[str, Any]) -> list[float]:
    """Return for each round the mean nanoseconds of a token behind the prompt."""
    import llama_cpp  # type: ignore[import-not-found]
    import numpy as np

    quiet = llama_cpp.llama_log_callback(lambda level, text, user: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(
        str(path).encode(), llama_cpp.llama_model_default_params()
    )
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = job["context"]
    params.n_batch = params.n_ubatch = job["context"]
    params.n_threads = params.n_threads_batch = job["threads"]
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, job["vocabulary"], job["prompt"]).tolist()

    def decode(context: Any, tokens: list[int]) -> int:
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(tokens))):
            raise RuntimeError("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(job["vocabulary"],)).argmax())

    times = []
    for _ in range(job["rounds"]):
        context = llama_cpp.llama_init_from_model(model, params)
        token = decode(context, prompt)
        begin = time.perf_counter_ns()
        for _ in range(job["tokens"]):
            token = decode(context, [token])
        times.append((time.perf_counter_ns() - begin) / job["tokens"])
        llama_cpp.llama_free(context)
    return times


if __name__ == "__main__":
    main()
