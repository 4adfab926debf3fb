"""The command's answers before anything is loaded."""

import importlib.util
import socket
import sys

import pytest

from rmae_jax.demo.__main__ import check_address, main


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "required: --checkpoint"),
        (["--checkpoint=RUN", "--share"], "unrecognized arguments: --share"),
        (["--checkpoint=RUN", "--port=70000"], "argument --port: invalid port value: '70000'"),
        (["--checkpoint=RUN", "--port=http"], "argument --port: invalid port value: 'http'"),
    ],
)
def test_wrong_flags_are_answered_at_once(flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert "gradio" not in sys.modules


def test_a_port_in_use_is_reported_before_anything_is_loaded(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"--port={port}: Address already in use; choose another --port"):
            check_address("127.0.0.1", port)
    check_address("127.0.0.1", port)
    with pytest.raises(OSError, match=r"--host=192.0.2.1 .*Cannot assign requested address"):
        check_address("192.0.2.1", port)


def test_without_gradio_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install -e \.\[demo\]"):
        main(["--checkpoint=RUN"])
