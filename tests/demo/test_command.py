"""The command's answers before anything is loaded."""

import importlib.util
import sys

import pytest

from rmae_jax.demo.__main__ import main


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


def test_without_gradio_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install -e \.\[demo\]"):
        main(["--checkpoint=RUN"])
