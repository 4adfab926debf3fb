"""Serves a web page on which a checkpoint's region branch completes regions from marked patches.

    python -m rmae_jax.demo --checkpoint=RUN

Only this machine can open the page, unless --host is another address.
"""

import argparse
import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading

from data_prep.storage.paths import local_path

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN_HOST_WARNING = (
    "warning: anyone who reaches {}, port {}, can use the page, upload photographs to this machine and keep it busy; "
    "there is no password and no encryption"
)


def main(argv: list[str] | None = None) -> None:
    """Serves the page until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m rmae_jax.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint", required=True, type=local_path, help="a run folder (newest step) or one step's folder"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", default=7860, type=port, help="port to listen on (default: 7860)")
    arguments = parser.parse_args(argv)
    if importlib.util.find_spec("gradio") is None:
        sys.exit("error: the page needs Gradio; install it with: pip install -e .[demo]")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with tempfile.TemporaryDirectory(prefix="rmae-jax-demo-") as uploads:
            _serve(arguments, uploads)
    except KeyboardInterrupt:
        print("\nstopped")
        sys.exit(130)


def _serve(arguments: argparse.Namespace, uploads: str) -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = uploads
    # Gradio requests its own page to check that it is up; a proxy cannot reach it.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), *LOOPBACK]))

    # Imported here, so that a wrong flag is reported at once.
    from rmae_jax import checkpoint_loading
    from rmae_jax.demo import app
    from rmae_jax.demo.segmenter import Segmenter
    from rmae_jax.runtime.library_logging import silence_libraries
    from rmae_jax.training import CheckpointError, ConfigError

    silence_libraries()

    try:
        check_address(arguments.host, arguments.port)
        segmenter = Segmenter(checkpoint_loading.load(arguments.checkpoint)[0])
        page = app.build(segmenter)
    except (ConfigError, CheckpointError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    stop = threading.Event()
    compiler = threading.Thread(target=segmenter.compile_ahead, args=(stop,))
    compiler.start()
    try:
        address = app.launch(page, arguments.host, arguments.port)
        if arguments.host not in LOOPBACK:
            print(OPEN_HOST_WARNING.format(arguments.host, arguments.port))
        print(f"{address}  (press Ctrl-C to stop)", flush=True)
        threading.Event().wait()
    except OSError as error:
        sys.exit(f"error: {error}")
    finally:
        stop.set()
        compiler.join()


def check_address(host: str, port: int) -> None:
    """Checks that a port is free before the checkpoint is loaded.

    Raises:
      OSError: another program listens on the port, or the host is not an address of this machine.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        raise OSError(f"--host={host} --port={port}: {error.strerror}; choose another --port or --host") from error


def port(text: str) -> int:
    """Parses a port number; argparse uses the name of this function in its error message."""
    number = int(text)
    if not 0 < number < 65536:
        raise ValueError
    return number


if __name__ == "__main__":
    main()
