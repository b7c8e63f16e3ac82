"""What an open series shows: pictures here, viewers where a notebook kernel runs."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

import voxelvault as vv
from voxelvault.display import compare, planes, viewer
from voxelvault.errors import UsageError
from voxelvault.series import Series


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (compare, planes, viewer):
        monkeypatch.setattr(module, "in_notebook", lambda: True)


@pytest.fixture
def ct(vault: vv.Vault, uids: dict[str, str]) -> Series:
    return vault.series(uids["CT"])


def test_pictures_outside_a_notebook(vault: vv.Vault, uids: dict[str, str], ct: Series) -> None:
    mask = ct.load() > 0
    mask[:, :3] = True
    plain, masked = ct.show("brain"), ct.show("brain", mask=mask)
    assert isinstance(plain, Image.Image)
    assert plain.tobytes() == ct.contact_sheet("brain").tobytes() != masked.tobytes()
    assert isinstance(ct.show(planes=True, mask=mask), Image.Image)
    assert isinstance(ct.compare(vault.series(uids["MR"]), window="brain"), Image.Image)
    with pytest.raises(UsageError, match="the mask has shape"):
        ct.show(mask=mask[1:])
    with pytest.raises(UsageError, match="two volumes"):
        ct.compare()


def test_labels_by_name_come_from_the_vault(ct: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    laid = np.zeros(ct.load().shape, np.uint8)
    laid[2, 4:9, 4:9], laid[2, 12:, 12:] = 1, 2
    asked: list[Any] = []
    monkeypatch.setattr(ct, "mask", lambda labels, stack: asked.append((labels, stack)) or laid)
    assert ct._laid(ct._stacks[0], ["Tumour", "Oedema"])[1] == {1: "Tumour", 2: "Oedema"}
    ct.show(mask="Tumour")
    assert asked == [(["Tumour", "Oedema"], 0), (["Tumour"], 0)]


@pytest.mark.usefixtures("notebook")
def test_the_viewer_shows_the_series_values_and_names_nobody(
    vault: vv.Vault, uids: dict[str, str], ct: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = ct.show("brain", mask=ct.load() > 0)
    sent: list[Any] = []
    monkeypatch.setattr(shown, "send", lambda message, buffers=(): sent.append((message, buffers)))
    shown._handle_custom_msg({"slice": 3}, [])
    [(message, [data, _])] = sent
    values = np.frombuffer(zlib.decompress(data), {"int16": "<i2", "float32": "<f4"}[message["kind"]])
    np.testing.assert_array_equal(values.reshape(message["rows"], message["columns"]), ct.load()[3])
    assert shown.unit == "HU"
    pictures = [shown, ct.show(planes=True), *ct.compare(vault.series(uids["MR"])).children]
    for one in pictures:
        state = {k: v for k, v in one.get_state().items() if k not in ("_esm", "_css")}
        assert not [uid for uid in uids.values() if uid in json.dumps(state, default=str)]
    ct.close()
    shown._handle_custom_msg({"slice": 2}, [])
    assert "problem" in sent[-1][0]


@pytest.mark.usefixtures("notebook")
def test_viewers_open_in_the_middle_of_the_mask(ct: Series) -> None:
    laid = np.zeros(ct.load().shape, np.uint8)
    laid[1, 4:9, 4:9] = 1
    assert ct.show(mask=laid).index == 1 != ct.show(mask=laid * 0).index
    assert ct.show(planes=True, mask=laid).note == "opened in the middle of the mask"


@pytest.mark.usefixtures("notebook")
def test_volumes_of_one_space_scroll_by_place(ct: Series, vault: vv.Vault, uids: dict[str, str]) -> None:
    one, two = ct.compare(vault.series(uids["CT"])).children
    one.index = 1
    assert two.index == 1


def test_a_sheet_shows_a_mask_as_the_viewer_does(ct: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    laid = np.zeros(ct.load().shape, np.uint8)
    laid[:, 4:12, 4:12], laid[:, 14:, 14:] = 1, 2
    monkeypatch.setattr(ct, "mask", lambda labels, stack: laid * (laid <= len(labels)))
    plain, one, both = ct.contact_sheet(), ct.contact_sheet(mask="Tumour"), ct.contact_sheet(mask=laid)
    assert one.tobytes() == ct.show(mask="Tumour").tobytes()
    assert len({picture.tobytes() for picture in (plain, one, both)}) == 3
    assert both.tobytes() == ct.contact_sheet(mask=["Tumour", "Oedema"]).tobytes()
    colours = {colour for _, colour in both.getcolors(1 << 20)}
    assert {(230, 75, 60), (70, 160, 250)} <= colours
    assert ct.contact_sheet(mask=laid, opacity=0.0).tobytes() != plain.tobytes()
    with pytest.raises(UsageError, match="the mask has shape"):
        ct.contact_sheet(mask=laid[1:])
