"""llama.cpp's server, of the package xllamacpp, on a GGUF file: the peer of `benchmarks.serving`.

python -m benchmarks.llama_server FILE PORT SLOTS CONTEXT THREADS
"""

import signal
import sys

import xllamacpp


def main() -> None:
    path, port, slots, context, threads = sys.argv[1], *map(int, sys.argv[2:])
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = slots * context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
