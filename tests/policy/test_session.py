"""Providers of onnxruntime: what is asked for runs, or is refused with what to do; its remains are explained."""

from __future__ import annotations

import pickle
import sys
import warnings
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("onnxruntime")

import onnxruntime

import hagpolicy as hag
from hagpolicy.errors import InvalidInput, MissingExtra
from hagpolicy.policy import session as sessions
from hagpolicy.policy.policy import Policy
from tests.support.making import LISTS, SUMS, sums_against_lists

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return sums_against_lists()


@pytest.fixture(scope="module")
def folder(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return policy.save(tmp_path_factory.mktemp("providers") / "policy")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The providers that sessions are asked for, with an onnxruntime that lists CUDA and, as the real one does where a
    library is missing, goes on without it."""
    found: list[Any] = []
    real = onnxruntime.InferenceSession

    def open_without(model: bytes, options: Any, providers: list[Any]) -> Any:
        found.append(providers)
        return real(model, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider", CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_without)
    return found


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these distributions of onnxruntime be installed and no others."""

    def version(name: str) -> str:
        if name in names:
            return "1.0"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(sessions.metadata, "version", version)


@pytest.mark.parametrize("providers", [None, "auto", [CPU], [(CPU, {"arena_extend_strategy": "kSameAsRequested"})]])
def test_the_cpu_decides_the_same_however_it_is_asked_for(policy: Policy, folder: Path, providers: Any) -> None:
    if providers == "auto" and CUDA in onnxruntime.get_available_providers():
        pytest.skip("a GPU is here, which auto takes")
    loaded = hag.load(folder, providers=providers)
    assert loaded.providers == (CPU,)
    assert loaded.predict_batch([*SUMS, *LISTS]) == policy.predict_batch([*SUMS, *LISTS])
    assert pickle.loads(pickle.dumps(loaded)).providers == (CPU,)


def test_what_onnxruntime_left_out_is_an_error_where_it_was_named(folder: Path, asked: list[Any]) -> None:
    with pytest.raises(InvalidInput, match=rf"providers: expected {CUDA}.*got {CPU} alone"):
        hag.load(folder, providers=[(CUDA, {"device_id": 0}), CPU])
    assert asked == [[(CUDA, {"device_id": 0}), CPU]]


def test_auto_takes_cuda_before_the_cpu_and_warns_where_it_did_not_open(folder: Path, asked: list[Any]) -> None:
    with pytest.warns(UserWarning, match=rf"{CUDA} could not be opened, the policy runs on {CPU}"):
        assert hag.load(folder, providers="auto").providers == (CPU,)
    assert asked == [[CUDA, CPU]]  # TensorRT would compile for minutes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hag.load(folder)
    assert asked[-1] == [CPU]


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        (("onnxruntime",), r"Install the onnxruntime that brings it \(onnxruntime is installed\)"),
        (("onnxruntime-gpu",), "driver, CUDA and cuDNN"),
        (("onnxruntime", "onnxruntime-gpu"), "installed at once.*pip uninstall -y onnxruntime onnxruntime-gpu"),
    ],
)
def test_what_to_do_depends_on_what_is_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], words: str
) -> None:
    install(monkeypatch, *installed)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(InvalidInput, match=rf"(?s)providers: expected some of {CPU}, got '?{CUDA}.*{words}"):
        hag.load(folder, providers=[CUDA])


@pytest.mark.parametrize("providers", ["cuda", "", [], ["CudaExecutionProvider"]])
def test_what_is_no_provider_is_refused(folder: Path, providers: Any) -> None:
    with pytest.raises(InvalidInput, match=rf"providers: .*{CPU}"):
        hag.load(folder, providers=providers)


@pytest.mark.parametrize("left", ["hollow", "none"])
def test_the_remains_of_an_onnxruntime_are_explained(folder: Path, monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    """pip uninstalled one of two, and with it files of the other, which it still lists."""
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime") if left == "hollow" else None)
    install(monkeypatch, "onnxruntime")
    with pytest.raises(MissingExtra, match=r"pip lists onnxruntime, .*pip uninstall -y onnxruntime, then"):
        hag.load(folder)
    install(monkeypatch)
    if left == "none":
        with pytest.raises(MissingExtra, match=r"hagpolicy\[cpu\]") as caught:
            hag.load(folder)
        assert "uninstall" not in str(caught.value)
