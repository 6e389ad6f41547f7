"""What this machine has."""

from deepcr_zoo import machine


def test_a_container_limits_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CONTAINER_LIMIT", tmp_path / "memory.max")
    whole = machine.memory_bytes()
    (tmp_path / "memory.max").write_text("1000000\n")
    assert machine.memory_bytes() == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_bytes() == whole


def test_there_is_a_processor_with_a_name():
    assert machine.processors() >= 1
    assert machine.processor_name()
