"""The simulated device on a line: the firmware's server, real outputs, simulated time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serial
from devices.sim_samples import bundle_bytes
from runtime.tiny_bundle import artifacts, tiny_builder

import nestling_runtime
from nestling_devices import Device, DeviceError, ProfileError, open_device
from nestling_devices.machine import RemoteMachine
from nestling_devices.sim.board import BoardOptions, SimulatedBoard, SimulatedMachine, parse_url
from nestling_runtime.errors import BudgetError, NestlingError, PathError, TargetError

IMAGE = np.linspace(-1.0, 1.0, 16, dtype=np.float32).reshape(1, 16)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the runtime's tests, for xnnpack."""
    path = tmp_path_factory.mktemp("bundles") / "tiny.nest"
    tiny_builder(artifacts()).write(path)
    return path


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose outputs are not computed here."""
    path = tmp_path_factory.mktemp("bundles") / "foreign.nest"
    path.write_bytes(bundle_bytes(target="cortex-m7", bits=8))
    return path


def connect(url: str) -> Device:
    """As a board on a serial port of that URL."""
    return Device("sim", RemoteMachine(url)).open()


@pytest.fixture
def device(tiny: Path) -> Iterator[Device]:
    """A phone with the bundle on it, in a hot room, its battery half empty."""
    with connect(f"sim://phone-mid?bundle={tiny}&air_c=35&charge=0.5&scatter=0") as opened:
        yield opened


def durations(url: str, runs: int) -> list[int]:
    """What runs of the full path take."""
    with connect(url) as device:
        device.select(len(device.paths()) - 1)
        found = []
        for _ in range(runs):
            device.run(image=IMAGE)
            assert device.last_run is not None
            found.append(device.last_run.duration)
        return found


def test_outputs_are_real_and_time_is_not(device: Device, tiny: Path) -> None:
    names = [path.name for path in device.paths()]
    taken = {}
    with nestling_runtime.open(tiny, threads=1) as model, model.session() as session:
        assert names == list(model.path_names)
        for name in names:
            device.select(name)
            session.select(name)
            found = device.run(image=IMAGE)["logits"]
            np.testing.assert_array_equal(found, session.run(image=IMAGE)["logits"])
            assert device.last_run is not None
            taken[name] = device.last_run.duration
    assert taken[names[-1]] > taken[names[0]] > 0
    # A second run costs the same virtual time to the nanosecond, which no clock of this machine
    # would say.
    device.run(image=IMAGE)
    assert device.last_run is not None
    assert abs(device.last_run.duration - taken[names[-1]]) <= 1


def test_it_says_what_it_is(device: Device) -> None:
    info = device.info()
    assert (info.engine, info.clock, info.device) == ("sim", "ns", "phone-mid")
    assert info.targets == ("xnnpack", "portable")
    assert info.bundle == "tiny"


def test_a_list_of_stages_runs_as_well(device: Device, tiny: Path) -> None:
    stages = [0, 1, 2]
    with nestling_runtime.open(tiny, threads=1) as model, model.session() as session:
        names = {stage.name: index for index, stage in enumerate(model.bundle.stages)}
        stages = [names[name] for name in ("stem", "block1.w2", "head")]
        session.select_stages(stages)
        wanted = session.run(image=IMAGE)["logits"]
    device.select(stages)
    np.testing.assert_array_equal(device.run(image=IMAGE)["logits"], wanted)
    with pytest.raises(PathError):
        device.select(stages[:1])


def test_telemetry_tells_temperature_and_battery(tiny: Path) -> None:
    url = f"sim://phone-mid?bundle={tiny}&air_c=35&charge=0.5&period_s=10"
    with connect(url) as device:
        before = device.telemetry()
        assert before.temperature_c == pytest.approx(35.0)
        assert before.battery == pytest.approx(0.5, abs=1e-6)
        for _ in range(20):
            device.run(image=IMAGE)
        after = device.telemetry()
    assert after.temperature_c is not None and before.temperature_c is not None
    assert after.battery is not None and before.battery is not None
    assert after.temperature_c > before.temperature_c
    assert after.battery < before.battery
    assert after.runs == before.runs + 20


def test_the_seed_decides_what_runs_take(tiny: Path) -> None:
    url = f"sim://phone-mid?bundle={tiny}"
    first = durations(f"{url}&seed=1", 5)
    assert durations(f"{url}&seed=1", 5) == first
    assert durations(f"{url}&seed=2", 5) != first
    assert len(set(first)) > 1


def test_a_hot_device_is_slower(tiny: Path) -> None:
    """At 45 degrees it has fallen back two steps: 2.4 to 1.6 GHz."""
    url = f"sim://phone-mid?bundle={tiny}&scatter=0"
    cool, hot = durations(url, 1)[0], durations(f"{url}&air_c=45", 1)[0]
    assert 1.2 * cool < hot <= 1.6 * cool


def test_requests_may_come_in_a_rhythm(tiny: Path) -> None:
    with connect(f"sim://phone-mid?bundle={tiny}&period_s=60") as device:
        for _ in range(10):
            device.run(image=IMAGE)
        telemetry = device.telemetry()
    # The first one waits too: opening the bundle has taken a moment.
    assert 10 * 60_000 <= telemetry.uptime_ms < 10 * 60_000 + 1000
    assert telemetry.temperature_c is not None and telemetry.temperature_c > 26.0


def test_measured_costs_are_taken(tiny: Path, tmp_path: Path) -> None:
    costs = tmp_path / "costs.json"
    costs.write_text('{"full": 1234.5}')
    url = f"sim://phone-mid?bundle={tiny}&scatter=0&costs={costs}"
    assert durations(url, 1)[0] == pytest.approx(1_234_500, abs=1)


def test_an_empty_battery_ends_it(tiny: Path) -> None:
    url = f"sim://phone-mid?bundle={tiny}&charge=0.001&period_s=60"
    with connect(url) as device, pytest.raises(DeviceError, match=r"battery .* is empty"):
        for _ in range(10):
            device.run(image=IMAGE)


def test_a_budget_is_kept(device: Device) -> None:
    device.select("full")
    resident = device.residency().resident
    assert resident > 0
    with pytest.raises(BudgetError):
        device.set_budget(resident // 2)
    device.select("tiny")
    device.set_budget(resident // 2)
    assert device.residency().evictions > 0


def test_a_target_that_is_not_computed_is_named(foreign: Path) -> None:
    with connect(f"sim://stm32h7?bundle={foreign}") as device:
        assert [path.name for path in device.paths()] == ["tiny", "small", "base", "full"]
        with pytest.raises(TargetError, match="does not compute outputs for cortex-m7"):
            device.run(image=np.zeros((1, 4), np.float32))
        # Its time is simulated all the same.
        assert device.telemetry().runs == 1


def test_a_bundle_for_another_device_is_refused(foreign: Path) -> None:
    with pytest.raises(TargetError, match="cortex-m7"):
        connect(f"sim://phone-mid?bundle={foreign}")


@pytest.mark.parametrize(
    ("url", "kind", "text"),
    [
        ("sim://toaster", ProfileError, "toaster"),
        ("sim://arm64", ProfileError, "cannot be simulated"),
        ("sim://", DeviceError, "no simulated device"),
        ("sim://phone-mid/there", DeviceError, "no simulated device"),
        ("sim://phone-mid?sead=1", DeviceError, "sead"),
        ("sim://phone-mid?seed=one", DeviceError, "seed"),
        ("sim://phone-mid?seed=", DeviceError, "seed"),
        ("sim://phone-mid?charge=2", DeviceError, "charge"),
        ("sim://phone-mid?scatter=nan", DeviceError, "scatter"),
        ("sim://phone-mid?period_s=-1", DeviceError, "period"),
        ("sim://phone-mid?air_c=inf", DeviceError, "air"),
        ("sim://phone-mid?threads=99", NestlingError, "threads"),
        ("sim://phone-mid?bundle=/none.nest", NestlingError, "none.nest"),
        ("sim://phone-mid?costs=/none.json", NestlingError, "none.json"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, kind: type[NestlingError], text: str) -> None:
    with pytest.raises(kind, match=text):
        serial.serial_for_url(url)


def test_every_option_of_the_url_is_read() -> None:
    profile, options = parse_url(
        "sim://rpi5?bundle=a.nest&flash=f&seed=3&scatter=0.1&air_c=30&charge=0.5&threads=2"
        "&costs=c.json&period_s=2&budget_bytes=100&slot_bytes=200"
    )
    assert profile.name == "rpi5"
    assert options == BoardOptions(
        bundle=Path("a.nest"),
        flash=Path("f"),
        seed=3,
        scatter=0.1,
        air_c=30.0,
        charge=0.5,
        threads=2,
        costs=Path("c.json"),
        period_s=2.0,
        budget_bytes=100,
        slot_bytes=200,
    )


def test_it_is_a_serial_port() -> None:
    port = serial.serial_for_url("sim://phone-mid", timeout=0.01, do_not_open=True)
    with pytest.raises(serial.SerialException):
        port.read()
    port.open()
    assert port.is_open and port.in_waiting == port.out_waiting == 0
    port.baudrate = 9600
    assert port.read(10) == b""
    assert port.write(b"no frame\n") == 9
    port.reset_input_buffer()
    with pytest.raises(serial.SerialException):
        port.open()
    port.close()
    port.close()
    assert not port.is_open
    with pytest.raises(serial.SerialException):
        port.write(b"x")


def test_flash_survives_a_power_cut(tiny: Path) -> None:
    with open_device("sim:phone-mid?scatter=0") as device:
        with pytest.raises(DeviceError, match="no bundle"):
            device.paths()
        report = device.push(tiny, confirm=True)
        assert report.sections_sent == report.sections
        device.power_cut()
        device.open()
        assert device.info().bundle == "tiny"
        assert device.push(tiny, confirm=True).sections_sent == 0
        machine = device.machine
        assert isinstance(machine, SimulatedMachine)
        assert isinstance(machine.board, SimulatedBoard)


def test_signatures_are_not_simulated(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="signatures"):
        open_device("sim:phone-mid", public_key=tmp_path / "my.pub")
