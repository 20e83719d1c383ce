"""What tells how the loaded BLAS computes, so that nothing kept is taken for what it is not."""

from __future__ import annotations

import pytest

from jobs.backend import blas

FILE = "libmkl_rt.so.3"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, ""),
        ({"MKL_CBWR": "AUTO"}, ""),  # as farense itself sets it
        ({"MKL_CBWR": "COMPATIBLE"}, ", MKL_CBWR=COMPATIBLE"),
        ({"OPENBLAS_CORETYPE": "Haswell"}, ", OPENBLAS_CORETYPE=Haswell"),
        (
            {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "MKL_CBWR": "AVX2"},
            ", MKL_CBWR=AVX2, MKL_ENABLE_INSTRUCTIONS=AVX2",
        ),
        # farense sets the threads itself, and what is said changes nothing.
        ({"MKL_NUM_THREADS": "7", "OPENBLAS_NUM_THREADS": "7", "MKL_VERBOSE": "0"}, ""),
        ({"HOME_OF_MKL_": "x"}, ""),
    ],
)
def test_what_lets_a_blas_compute_otherwise_is_told_with_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name in ("MKL_CBWR", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(blas, "_loaded", f"/nowhere/{FILE}")
    assert blas.blas_build() == f"{FILE}{said}"
    monkeypatch.setattr(blas, "_loaded", None)
    assert blas.blas_build() == "none"
