from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile

import pytest
from flwr.app import ArrayRecord, Error, Message, RecordDict
from flwr.cli.config_utils import get_fab_config
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from voxelvault_fl.errors import fixed_word
from voxelvault_fl.processes.bundle import bundle
from voxelvault_fl.processes.envelope import fault_of, fault_reply, unwrap, wrap


def _asked() -> Message:
    # In a run, Flower's process fills these in once.
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    return Message(wrap(b"asked"), 7, "query.voxelvault", ttl=60.0)


@pytest.mark.parametrize("said", [b"", b"x", bytes(range(256)) * 1000])
def test_bytes_come_out_as_they_went_in(said: bytes) -> None:
    assert unwrap(wrap(said)) == said


def test_other_content_is_not_ours() -> None:
    with pytest.raises(KeyError):
        unwrap(RecordDict())
    with pytest.raises(KeyError):
        unwrap(RecordDict({"voxelvault": ArrayRecord()}))


@pytest.mark.parametrize(
    "said", ["<class 'ValueError'>:<'Doe^Jane'>", "DOE", "two words", "x" * 41, "", None, 3, "jane\n"]
)
def test_only_a_fixed_word_leaves(said: object) -> None:
    assert fixed_word(said) == "failed"
    assert fault_of(fault_reply(said, _asked())) == "failed"  # type: ignore[arg-type]


def test_a_word_comes_through_and_flowers_own_errors_become_words() -> None:
    assert fault_of(fault_reply("not-approved", _asked())) == "not-approved"
    gone = Message(Error(ErrorCode.NODE_UNAVAILABLE, "text of Flower"), reply_to=_asked())
    assert fault_of(gone) == "disconnected"
    assert fault_of(Message(Error(ErrorCode.UNKNOWN, "text"), reply_to=_asked())) == "failed"


def test_the_bundle_is_the_same_everywhere_and_has_no_code_and_no_dependencies() -> None:
    made = bundle()
    assert hashlib.sha256(made.content).hexdigest() == made.digest
    assert made.digest == "56a57dc83f2ded11dcc230311574df6531a3e641930387bb77ce3e6b07f7a855"
    with zipfile.ZipFile(io.BytesIO(made.content)) as archive:
        project = tomllib.loads(archive.read("pyproject.toml").decode())
        code = archive.read("nothing_here.py")
    assert project["project"]["dependencies"] == []
    with pytest.raises(ImportError, match="never sent"):
        exec(compile(code, "nothing_here", "exec"))


def test_flower_takes_the_bundle() -> None:
    assert get_fab_config(bundle().content)["tool"]["flwr"]["app"]["publisher"] == "voxelvault"
