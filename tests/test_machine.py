"""What this machine has."""

import sys

import pytest

from deepcr_zoo import machine
from deepcr_zoo.models.forks import threads


@pytest.mark.parametrize(
    ("own", "folder", "limit", "used"),
    [
        ("0::/\n", "", "memory.max", "memory.current"),
        ("0::/slurm/job_1\n", "slurm/job_1", "memory.max", "memory.current"),
        ("0::/slurm/job_1\n", "slurm", "memory.max", "memory.current"),
        ("9:cpu:/x\n4:memory:/pod/1\n", "memory/pod/1", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
def test_a_container_or_a_batch_job_limits_memory(own, folder, limit, used, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    (tmp_path / "own").write_text(own)
    group = tmp_path / "cgroup" / folder
    group.mkdir(parents=True)
    whole = machine.memory_bytes()
    (group / limit).write_text("1000000\n")
    (group / used).write_text("700000\n")
    assert machine.memory_bytes() == 1_000_000
    assert machine.free_memory_bytes() == 300_000
    (group / "memory.stat").write_text("cache 5\ninactive_file 200000\nother 1\n")
    assert machine.free_memory_bytes() == 500_000
    (group / limit).write_text("max\n")
    assert machine.memory_bytes() == whole


@pytest.mark.parametrize(("flags", "is_so"), [("fpu amx_bf16 amx_tile", True), ("fpu avx512_bf16 amx_bf16x", False)])
def test_processors_that_multiply_bfloat16_are_known_by_their_flags(flags, is_so, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"model name\t: X\nflags\t\t: {flags}\nbugs\t\t: amx_bf16\n")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    assert machine.multiplies_bfloat16() is is_so
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")  # of systems other than Linux
    assert not machine.multiplies_bfloat16()


@pytest.mark.parametrize(
    "words",
    [
        "[enforce fail at alloc_cpu.cpp] can't allocate memory: you tried",
        "Exception: Failed to allocate 188 bytes of memory",
    ],
)
def test_errors_of_libraries_without_memory_are_known(words):
    assert machine.is_out_of_memory(RuntimeError(words))
    assert not machine.is_out_of_memory(ValueError(words))


@pytest.mark.parametrize(
    ("stated", "expected"), [("3", 3), ("2,1", 2), ("99999999999", None), ("0", None), ("many", None), ("", None)]
)
def test_computations_get_the_threads_that_are_stated(stated, expected, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert threads() == (expected or machine.processors())


def test_there_is_a_processor_with_a_name():
    assert machine.processors() >= 1
    assert machine.processor_name()


@pytest.mark.parametrize(("pattern", "expected"), [("nul*", True), ("gone*", False)])
def test_a_gpu_is_looked_for_among_the_devices(pattern, expected, monkeypatch):
    monkeypatch.setattr(machine, "_GPU_DEVICES", (pattern,))
    monkeypatch.setattr(sys, "platform", "linux")
    assert machine.may_have_gpu() is expected
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.may_have_gpu()
