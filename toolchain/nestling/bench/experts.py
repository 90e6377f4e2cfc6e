"""The experts' demo: tasks, text, pictures and orders, each with its records and its picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from nestling.bench.experts_diffusion import POLICIES as STEP_POLICIES
from nestling.bench.experts_diffusion import Drawn, measure_diffusion
from nestling.bench.experts_language import (
    Workload,
    machine_note,
    measure_alignment,
    measure_bound,
    measure_memory_points,
    measure_quarter,
    point_records,
)
from nestling.bench.experts_order import measure_orders
from nestling.bench.experts_plot import (
    DrawnRow,
    draw_digits,
    draw_memory,
    draw_orders,
    draw_tasks,
)
from nestling.bench.experts_quality import measure_quality
from nestling.bench.experts_replay import measure_hit_rates
from nestling.bench.experts_tasks import measure_tasks, show_tasks
from nestling.bench.experts_training import DigitNetworks, DigitTraining, train_networks
from nestling.bench.records import Record, describe_machine, merge_records
from nestling.decoder_export import export_decoder
from nestling.experts.decoder import ExpertLlama
from nestling.experts.slices import ExpertFormat
from nestling.language.bits import Windows, cut_windows
from nestling.language.corpus import KINDS, Split, load_corpus
from nestling.language.tokenizer import encode_stream, load_tokenizer, token_bytes
from nestling.partition.decoder import DecoderShape
from nestling.recipes.experts import language
from nestling.recipes.experts.noise import STEPS
from nestling.recipes.language import VOCABULARY

PARTS = ("tasks", "language", "diffusion", "orders", "mid-size")
RECORDS_NAME = "bench.json"

MID_LAYERS, MID_EXPERTS, MID_TOP_K = 8, 32, 2
_MID_NOTE = (
    f"a decoder with random weights, {MID_LAYERS} layers of width 512, {MID_EXPERTS} experts of "
    f"512 neurons each, {MID_TOP_K} a token; "
)
_LENGTH = 256


@dataclass(frozen=True)
class DemoOptions:
    """How much the demo measures.

    Attributes:
        rounds: Of times that are compared.
        pictures: That each step policy draws.
        windows: Of held-out text of each kind, for quality.
        jobs: Processes that train or lower at once.
        training: Of the networks on digits.
    """

    rounds: int = 5
    pictures: int = 500
    windows: int = 12
    jobs: int = 2
    training: DigitTraining = field(default_factory=DigitTraining)


class ExpertsDemo:
    """One run of the demo.

    Args:
        out: Folder for everything that it makes.
        options: How much.
        say: Told what is being done.
    """

    def __init__(self, out: Path, options: DemoOptions, say: Callable[[str], None]) -> None:
        self.out = out
        self.options = options
        self.say = say
        self.out.mkdir(parents=True, exist_ok=True)
        self.cache = out / "lowering"

    def run(self, parts: Sequence[str] = PARTS) -> list[Record]:
        """Measure some parts; their records replace those of an earlier run in the folder."""
        measure = {
            "tasks": self.measure_tasks,
            "language": self.measure_language,
            "diffusion": self.measure_diffusion,
            "orders": self.measure_orders,
            "mid-size": self.measure_mid_size,
        }
        records: list[Record] = []
        for part in parts:
            found = measure[part]()
            merge_records(found, self.out / RECORDS_NAME)
            records += found
        return records

    @cached_property
    def networks(self) -> DigitNetworks:
        """The networks on digits, trained now or before."""
        self.say("training on the digits what is not there yet (some minutes)")
        return train_networks(
            self.out / "networks",
            self.options.training,
            jobs=self.options.jobs,
            progress=lambda done, total, name: self.say(f"trained {name} ({done} of {total})"),
        )

    def measure_tasks(self) -> list[Record]:
        """Four tasks in one network."""
        networks = self.networks
        self.say("tasks: exporting and answering")
        bundle = self.out / "tasks.nest"
        records = measure_tasks(
            networks.tasks,
            networks.singles,
            bundle,
            rounds=self.options.rounds,
            jobs=self.options.jobs,
            cache_dir=self.cache,
        )
        example = show_tasks(networks.tasks, bundle)
        draw_tasks(
            example.images,
            example.answers,
            self.out / "tasks.png",
            "held-out scans; turned for the task of turns; half of the patches hidden, and noise; "
            "repaired",
        )
        return records

    def measure_diffusion(self) -> list[Record]:
        """Pictures by steps that choose experts, depth or reuse."""
        networks = self.networks
        self.say("diffusion: exporting and drawing")
        records, drawn = measure_diffusion(
            networks.diffusion,
            networks.dense_diffusion,
            self.out,
            pictures=self.options.pictures,
            rounds=self.options.rounds,
            jobs=self.options.jobs,
            cache_dir=self.cache,
        )
        draw_digits(
            [_row(one) for one in drawn],
            self.out / "diffusion.png",
            f"the same noise in every row, {STEPS} steps; right: taken for the digit that was "
            f"asked for, of {self.options.pictures}; {describe_machine(1)}",
        )
        return records

    def measure_orders(self) -> list[Record]:
        """M3ViT's order against a cache's."""
        self.say("orders: a whole image with memory for two experts")
        result = measure_orders(
            self.out / "orders", rounds=self.options.rounds, jobs=self.options.jobs
        )
        draw_orders(
            result.points,
            self.out / "orders.png",
            f"random weights, 129 patches, one layer of experts, 200 MB/s; {describe_machine(1)}",
        )
        return result.records

    def measure_language(self) -> list[Record]:
        """Text with room for some of the experts."""
        rounds = self.options.rounds
        self.say("language: exporting")
        supernet = language.load_trained()
        form = ExpertFormat(language.GROUP)
        judged = self._windows("held-out", self.options.windows)
        bundle = self.out / "experts.nest"
        export_decoder(
            supernet,
            bundle,
            shape=DecoderShape(context=2 * _LENGTH),
            tokenizer=language.TOKENIZER.read_bytes(),
            experts=form,
            calibration=self._windows("validation", 8).tokens,
            jobs=self.options.jobs,
            cache_dir=self.cache,
        )
        work = Workload(_prompts(judged, 2, 64), 64)
        experts = language.LAYERS * language.EXPERTS
        self.say("language: hit rates of every policy on one trace")
        records = measure_hit_rates(bundle, judged.tokens)
        self.say("language: 4 bits against 8")
        records += measure_quality(supernet, bundle, judged, form)
        self.say("language: room for a quarter of the experts")
        records += measure_quarter(bundle, work, experts, rounds=rounds)
        records += measure_bound(bundle, work, experts)
        records += measure_alignment(bundle, work, experts, language.TOP_K, rounds=rounds)
        points = measure_memory_points(bundle, work, experts, say=self.say)
        draw_memory(points, self.out / "memory.png", machine_note(work))
        return [*records, *point_records(points, machine_note(work))]

    def measure_mid_size(self) -> list[Record]:
        """The same speeds where an expert is large enough to be more than overheads."""
        self.say("mid-size: a decoder of 200 million random weights")
        bundle = self.out / "mid-size.nest"
        judged = self._windows("held-out", 4)
        if not bundle.exists():
            export_decoder(
                make_mid_size(),
                bundle,
                shape=DecoderShape(context=_LENGTH, chunks=(4,)),
                experts=ExpertFormat(language.GROUP),
                calibration=self._windows("validation", 2).tokens,
                jobs=self.options.jobs,
                cache_dir=self.cache,
            )
        work = Workload(_prompts(judged, 1, 64), 24, write=False)
        experts = MID_LAYERS * MID_EXPERTS
        rounds = min(3, self.options.rounds)
        self.say("mid-size: room for a quarter of the experts")
        return [
            *measure_quarter(
                bundle, work, experts, rounds=rounds, prefix="mid-size ", note=_MID_NOTE
            ),
            *measure_bound(bundle, work, experts, prefix="mid-size ", note=_MID_NOTE),
            *measure_alignment(
                bundle, work, experts, MID_TOP_K, rounds=rounds, prefix="mid-size ", note=_MID_NOTE
            ),
        ]

    def _windows(self, split: Split, count: int) -> Windows:
        tokenizer = load_tokenizer(language.TOKENIZER, VOCABULARY)
        documents = load_corpus(split)
        texts = {kind: encode_stream(tokenizer, documents, kind) for kind in KINDS}
        return cut_windows(texts, token_bytes(tokenizer), length=_LENGTH, count=count)


def make_mid_size() -> ExpertLlama:
    """Return a decoder of random weights whose tokens differ in their experts."""
    supernet = language.make_decoder(
        dim=512,
        layers=MID_LAYERS,
        heads=8,
        groups=2,
        experts=MID_EXPERTS,
        top_k=MID_TOP_K,
        hidden=512,
    )
    language.shake(supernet)
    return supernet.eval()


def _prompts(windows: Windows, count: int, length: int) -> list[list[int]]:
    """Return the beginnings of held-out texts, `count` of each kind."""
    rows = []
    for kind in KINDS:
        numbers = [row for row, one in enumerate(windows.kinds) if one == kind]
        rows += [windows.tokens[row, :length].tolist() for row in numbers[:count]]
    return rows


def _row(drawn: Drawn) -> DrawnRow:
    policies = {policy.name for policy in STEP_POLICIES}
    title = drawn.policy if drawn.policy in policies else f"{drawn.policy} (no policy)"
    median = float(torch.tensor(drawn.milliseconds).median())
    judged = drawn.judgement
    return DrawnRow(
        f"{title}: {judged.accuracy:.1%} right, distance {judged.distance:.1f}, {median:.1f} ms",
        drawn.images[:10],
    )
