"""What frameworks say becomes one line, or nothing."""

import os
import sys

import pytest

from widenet_keras.data.broken_images import BrokenImages
from widenet_keras.files.manifest import damaged
from widenet_keras.utils.command_line import run_command
from widenet_keras.utils.plain_errors import first_line
from widenet_keras.utils.progress import Progress
from widenet_keras.utils.quiet import quiet, tell

OF_A_GRAPH = """Graph execution error:

Detected at node map/while/DecodeJpeg defined at (most recent call last):
  File "train.py", line 3, in <module>

2 root error(s) found.
  (0) INVALID_ARGUMENT:  Unknown image file format.
\t [[{{node map/while/DecodeJpeg}}]]
  (1) CANCELLED:  Function was cancelled"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (OF_A_GRAPH, "INVALID_ARGUMENT:  Unknown image file format."),
        (
            "{{function_node __wrapped__MatMul_device_/CPU:0}} Matrix size-incompatible"
            " [Op:MatMul] name: ",
            "Matrix size-incompatible",
        ),
        ("\n\nfirst\nsecond", "first"),
        ("", "RuntimeError"),
        ("x" * 1000, "x" * 300 + " ..."),
    ],
    ids=["graph", "operation", "empty lines", "nothing", "long"],
)
def test_what_a_framework_says_in_one_line(text, line):
    assert first_line(RuntimeError(text)) == line


def test_a_damaged_file_is_told_in_one_line():
    text = str(damaged("model.onnx", RuntimeError(OF_A_GRAPH)))
    assert "\n" not in text
    assert "Unknown image file format" in text
    assert "{{" not in text


def test_a_fault_of_ours_keeps_its_traceback():
    def main(parsed):
        raise KeyError("ours")

    pytest.importorskip("tyro")
    with pytest.raises(KeyError, match="ours"):
        run_command(main, dict, "program", [])


def test_what_is_told_meanwhile_is_not_held_back(capfd, monkeypatch):
    with open(2, "w", closefd=False) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with quiet():
            os.write(2, b"something else\n")
            progress = Progress("reading", 3)
            progress.said -= 10
            progress.add()
            BrokenImages("skip").add("a.png", "it is none")
            assert capfd.readouterr().err.splitlines() == [
                "reading: 1 of 3",
                "skipped a.png: it is none (1 so far)",
            ]
        tell("later")
        assert capfd.readouterr().err == "something else\nlater\n"


def test_what_is_logged_below_errors_is_left_out(capfd):
    with quiet():
        os.write(2, b"I0000 00:00:1795762630.134789    9588 reader.cc:83] Reading\n")
        os.write(2, b"WARNING: All log messages before absl::InitializeLog()\n")
        with quiet():
            os.write(2, b"E0000 00:00:1795762630.134789    9588 x.cc:1] an error\n")
        os.write(2, b"something else\n")
    os.write(2, b"I0000 00:00:1795762630.134789    9588 reader.cc:83] later\n")
    lines = capfd.readouterr().err.splitlines()
    assert [line.split("] ")[-1] for line in lines] == [
        "an error",
        "something else",
        "later",
    ]
